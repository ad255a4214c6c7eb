# The working root of a site whose hosts come from a module of the operator's own. edgefl copies it to .edgefl/terraform, the module
# beside it, and writes terraform.tfvars.json.

terraform {
  required_version = ">= 1.5"
}

variable "devices" {
  description = "Every host of the site by name: role, address (null where the module chooses it), ssh_user, ssh_port, host_key."
  type        = any
}

module "hosts" {
  source  = "./modules/own"
  devices = var.devices
}

output "inventory" {
  description = "The hosts that exist."
  value       = module.hosts.inventory
}
