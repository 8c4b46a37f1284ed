#!/bin/bash
# The README's picture of a night's page: its top, and beside it one client and the map of users.
#   docs/screenshot.sh demo/data/reports/dt=2026-03-02/part-*.html
# Needs Debian's chromium and imagemagick.
set -euo pipefail
page=$(realpath "$1")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

shoot() { # name, extra style
    sed "0,/<\/head>/s|</head>|<style>$2</style></head>|" "$page" > "$folder/$1.html"
    chromium --headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update --disable-sync \
        --user-data-dir="$folder/chromium" --hide-scrollbars --window-size=1366,1830 --screenshot="$folder/$1.png" "file://$folder/$1.html" 2> "$folder/log" \
        || { cat "$folder/log" >&2; exit 1; }
}
shoot top ''
shoot rest 'header, nav, .keys, .status, footer, section:not(#quality):not(#map), #quality .card:nth-of-type(n+3), #map .card + .card { display: none !important } main { margin-top: 0 !important } section { margin-top: 1.4rem }'
convert "$folder/top.png" "$folder/rest.png" +append -resize 1800x +dither -colors 200 -define png:compression-level=9 docs/report.png
ls -l docs/report.png
