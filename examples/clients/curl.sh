#!/usr/bin/env bash
# Sends requests with curl, signed by openssl with version 1: `curl.sh FLAG... URL`. Reads a request per line: the key's id and
# secret, then the pairs. Prints the body of each response as a line.
set -euo pipefail
host=${*: -1} host=${host#*://} host=${host%/}
while read -r secret_id secret_key pairs; do
    pairs=$(printf '%s\n' $pairs "Nonce=$RANDOM" "SecretId=$secret_id" "Timestamp=$(date +%s)" | LC_ALL=C sort -t= -k1,1 | paste -sd "&")
    signature=$(printf %s "POST$host/?$pairs" | openssl dgst -sha1 -hmac "$secret_key" -binary | base64)
    curl --silent --show-error --data "$pairs" --data-urlencode "Signature=$signature" "$@"
    echo
done
