#!/usr/bin/env bash
# Follows a stream with curl, and resumes it with Last-Event-ID: examples/curl.sh 'http://localhost:8000/stream?topics=log'
set -u
url=$1 last= id= event= data= retry=5
while :; do
    while IFS= read -r line; do
        case $line in
        'id: '*) id=${line#id: } ;;
        'event: '*) event=${line#event: } ;;
        'data: '*) data+=${data:+$'\n'}${line#data: } ;;
        'retry: '*) retry=$(printf '%d.%03d' $((${line#retry: } / 1000)) $((${line#retry: } % 1000))) ;;
        '')
            last=${id:-$last}
            case $event in
            heartbeat) ;;
            system) echo "connected: $data" >&2 ;;
            gap) echo "missed events: $data" >&2 ;;
            *) printf '%s %s\n' "$last" "$data" ;;
            esac
            event='' data=''
            ;;
        esac
    done < <(curl --silent --show-error --fail --no-buffer ${last:+--header "Last-Event-ID: $last"} "$url")
    # The server sends an incomplete event again.
    id='' event='' data=''
    sleep "$retry"
done
