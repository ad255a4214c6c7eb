# Hosts on this machine, made by edgefl's own provider.

terraform {
  required_version = ">= 1.5"
  required_providers {
    edgefl = {
      source  = "edgefl.local/edgefl/edgefl"
      version = "1.0.0"
    }
  }
}

resource "edgefl_lab_host" "host" {
  for_each = var.devices

  name          = each.key
  role          = each.value.role
  address       = each.value.address
  cpu           = each.value.cpu
  memory_mb     = each.value.memory_mb
  uplink_mbit   = each.value.uplink_mbit
  downlink_mbit = each.value.downlink_mbit
  latency_ms    = each.value.latency_ms
  data          = each.value.data
  preloaded     = each.value.preloaded
}
