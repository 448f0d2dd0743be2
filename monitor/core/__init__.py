"""Words of the field, settings and pure rules; imports nothing of ours."""
