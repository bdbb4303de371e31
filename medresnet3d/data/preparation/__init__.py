"""From the official folder of a public data set to a manifest: what all adapters share."""
