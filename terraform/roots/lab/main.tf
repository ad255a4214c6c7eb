# The working root of a site whose hosts are the lab's. edgefl copies it to .edgefl/terraform and writes terraform.tfvars.json.

terraform {
  required_version = ">= 1.5"
  required_providers {
    edgefl = {
      source  = "edgefl.local/edgefl/edgefl"
      version = "1.0.0"
    }
  }
}

variable "lab" {
  description = "Directory of the lab's hosts, and its network with the operator's address."
  type = object({
    directory = string
    network   = string
  })
}

variable "devices" {
  description = "Every host of the site by name; the module describes the fields."
  type        = any
}

provider "edgefl" {
  directory = var.lab.directory
  network   = var.lab.network
}

module "hosts" {
  source  = "./modules/lab"
  devices = var.devices
}

output "inventory" {
  description = "The hosts that exist."
  value       = module.hosts.inventory
}
