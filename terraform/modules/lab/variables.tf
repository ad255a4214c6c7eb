variable "devices" {
  description = "Every host of the site by name, the coordinator among them."
  type = map(object({
    role          = string
    address       = string
    cpu           = optional(number, 1)
    memory_mb     = optional(number, 1536)
    uplink_mbit   = optional(number)
    downlink_mbit = optional(number)
    latency_ms    = optional(number, 0)
    data          = optional(string)
    preloaded     = optional(bool, true)
    labels        = optional(map(string), {})
  }))

  validation {
    condition     = alltrue([for device in var.devices : contains(["coordinator", "device", "watcher"], device.role)])
    error_message = "A role is coordinator, device or watcher."
  }
}
