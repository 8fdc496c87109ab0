#!/usr/bin/env bash
# Install Chromium, with which test/serving/test_page.py looks at the server's page, where it is
# missing and we may; say how where we may not. Never fails: only those tests need it.
set -uo pipefail

there() { command -v chromium chromium-browser google-chrome google-chrome-stable >/dev/null; }

there && exit
if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
  echo 'installing chromium, for the tests of the page ...'
  apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120)
  "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends chromium >/dev/null
  there && exit
fi
echo 'no Chromium: the tests of the page are skipped. To have it: sudo apt install chromium'
exit 0
