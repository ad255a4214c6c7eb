"""What is done to hosts: the bundle, SSH, preflight, Ansible, probes and their proof."""
