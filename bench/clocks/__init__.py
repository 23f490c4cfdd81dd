"""The fast clock beside the event engine on the same requests, and what it costs by number of services."""
