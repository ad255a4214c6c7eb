output "inventory" {
  description = "The hosts that exist, in the form that every module of edgefl gives. Host keys are public."
  value = {
    version = 1
    hosts = {
      for name, host in edgefl_lab_host.host : name => {
        ansible_host = host.address
        ansible_port = 22
        ansible_user = "root"
        groups       = [host.role]
        vars         = merge(var.devices[name].labels, { host_key = host.host_key })
      }
    }
  }
}
