# keeper.sh ENTRANCES NSPAWN...: run one host until it powers off, again when it reboots (nspawn then exits with 133).
# ENTRANCES are the cgroup.procs files of the host's box, separated by spaces.
entrances=$1
shift
while :; do
  (
    for file in $entrances; do echo 0 >"$file"; done
    exec "$@"
  )
  [ $? = 133 ] || exit
done
