#!/usr/bin/env bash
# Install Chromium if it is missing; test/serving/test_page.py looks at the server's page with it.
# Without the right to install it, say how to. Never fails: only those tests need Chromium.
set -uo pipefail

there() { command -v chromium chromium-browser google-chrome google-chrome-stable >/dev/null; }

there && exit
if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
  echo 'installing chromium, for the tests of the page ...'
  apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120)
  "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends chromium >/dev/null
  there && exit
fi
echo 'no Chromium: the tests of the page are skipped. To install it: sudo apt install chromium'
exit 0
