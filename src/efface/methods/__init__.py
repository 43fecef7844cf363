"""The methods: one file each, named as in the paper."""
