"""A release for engines that keep servers elsewhere: a container image's folder, and manifests for Kubernetes.

Belongs here: what those files hold. Every value of a release is checked before, and written by a writer of the format.
"""
