# Hosts that exist already: adopted by address, never made, changed or removed.

terraform {
  required_version = ">= 1.5"
}

resource "terraform_data" "host" {
  for_each = var.devices

  input = {
    role     = each.value.role
    address  = each.value.address
    ssh_user = each.value.ssh_user
    ssh_port = each.value.ssh_port
  }
}
