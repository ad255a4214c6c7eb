# capsule.sh READY FURNISH: first process of a lab's namespaces (mount, pid, net). Everything of the lab ends when it does.
read -r pid _ </proc/self/stat # its number on the machine: this /proc is still the machine's
mount -t proc proc /proc
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/netns
sh -euc "$2"
echo "$pid" >"$1.partial"
mv "$1.partial" "$1"
while :; do
  sleep 2147483 & # the shell reaps whatever the namespace orphans while it waits
  wait $!
done
