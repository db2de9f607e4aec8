#!/bin/bash
# A pipeline of children, with short-lived ones coming and going: counted lines pass through awk and are verified at
# the end. Speaks the protocol of check.h.
log=$1 finish=$2
exec 2>>"$log"

produce() {
    local n=0
    while [ ! -e "$finish" ]; do
        echo "$((n++))"
        [ $((n % 10)) = 0 ] && sleep 0.02
    done
    echo "end $n"
}

verify() {
    local want=0 line
    while read -r line; do
        case $line in
        end*)
            [ "$line" = "end $want" ] || { echo "FAIL: last line, expected end $want, got $line" >>"$log"; exit 1; }
            exit 0
            ;;
        "$((want * 3 + 1))") want=$((want + 1)) ;;
        *)
            echo "FAIL: line $want, expected $((want * 3 + 1)), got $line" >>"$log"
            exit 1
            ;;
        esac
        [ "$want" = 100 ] && echo ready >>"$log"
    done
    echo "FAIL: the pipeline broke after $want lines" >>"$log"
    exit 1
}

produce | awk '/^end/ {print; fflush(); next} {print $1 * 3 + 1; fflush()}' | verify
status=("${PIPESTATUS[@]}")
if [ "${status[*]}" != "0 0 0" ]; then
    echo "FAIL: exit codes of the pipeline, expected 0 0 0, got ${status[*]}" >>"$log"
    exit 1
fi
echo ok >>"$log"
