output "inventory" {
  description = "The adopted hosts, in the form that every module of edgefl gives. Host keys are public."
  value = {
    version = 1
    hosts = {
      for name, host in terraform_data.host : name => {
        ansible_host = host.output.address
        ansible_port = host.output.ssh_port
        ansible_user = host.output.ssh_user
        groups       = [host.output.role]
        vars         = merge(var.devices[name].labels, { host_key = var.devices[name].host_key })
      }
    }
  }
}
