variable "devices" {
  description = "Every host of the site by name, the coordinator among them."
  type = map(object({
    role     = string
    address  = string
    ssh_user = optional(string, "root")
    ssh_port = optional(number, 22)
    host_key = optional(string)
    labels   = optional(map(string), {})
  }))

  validation {
    condition     = alltrue([for device in var.devices : contains(["coordinator", "device", "watcher"], device.role)])
    error_message = "A role is coordinator, device or watcher."
  }
}
