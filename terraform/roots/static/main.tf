# The working root of a site that adopts hosts. edgefl copies it to .edgefl/terraform and writes terraform.tfvars.json.

terraform {
  required_version = ">= 1.5"
}

variable "devices" {
  description = "Every host of the site by name; the module describes the fields."
  type        = any
}

module "hosts" {
  source  = "./modules/static"
  devices = var.devices
}

output "inventory" {
  description = "The hosts that exist."
  value       = module.hosts.inventory
}
