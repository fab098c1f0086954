# Ends the server in $DIR once nobody needs it, and removes $DIR unless $KEEP is set. Not needed means: the process at the
# other end of standard input is gone without a word; or, if $USERS is set, nobody has locked that file for $LINGER seconds.
trap '' HUP INT TERM

alive() {
    pid=$(cat "$DIR/pid" 2>/dev/null) && grep -qF "$DIR" "/proc/$pid/cmdline" 2>/dev/null
}

if [ -n "$USERS" ]; then
    exec 9>>"$USERS"
    idle=0
    while sleep 1; do
        [ -d "$DIR" ] || exit 0
        if flock -n 9; then
            idle=$((idle + 1))
            # Still locked from here on: whoever comes now waits and then starts a new server.
            [ "$idle" -ge "$LINGER" ] && break
            flock -u 9
        else
            idle=0
        fi
    done
else
    read -r _ && exit 0
fi

if alive; then
    kill -s "$SIGNAL" "$pid"
    kill -s CONT "$pid"
    tries=0
    while alive && [ "$tries" -lt 100 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
    alive && kill -s KILL "$pid"
fi
[ -n "$KEEP" ] || rm -rf "$DIR"
