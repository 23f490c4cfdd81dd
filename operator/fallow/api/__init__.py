"""The Kubernetes kinds of fallow.dev/v1alpha1 as pydantic models: the single source of the CRDs, the reference page
and the strict reading of objects. Stands at the edge, beside the ports; the core never sees these types.
"""
