{{- define "fallow.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "fallow.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains (include "fallow.name" .) .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "fallow.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "fallow.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "fallow.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name must name an existing ServiceAccount when serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "fallow.instance" -}}
app.kubernetes.io/name: {{ include "fallow.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "fallow.selector" -}}
{{ include "fallow.instance" . }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "fallow.agentSelector" -}}
{{ include "fallow.instance" . }}
app.kubernetes.io/component: agent
{{- end -}}

{{- define "fallow.release" -}}
app.kubernetes.io/part-of: fallow
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "fallow.labels" -}}
{{ include "fallow.selector" . }}
{{ include "fallow.release" . }}
{{- end -}}

{{- define "fallow.agentLabels" -}}
{{ include "fallow.agentSelector" . }}
{{ include "fallow.release" . }}
{{- end -}}

{{- define "fallow.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}
