"""edgefl's Terraform provider: lab hosts as resources. It runs as a process that Terraform starts, never in the operator's."""
