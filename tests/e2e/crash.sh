#!/bin/bash
# More than 200 kills: 20 of each process over random programs, some over the newsletter with a Maildir and with a mail
# server that is not ours. The outside is the judge.
set -euo pipefail
cd "$(dirname "$0")/../.."
tools/crash --kills 20 --pace 0.5
tools/crash --kills 6 --pace 0.5 --demo maildir
if command -v npm >/dev/null && command -v node >/dev/null; then
	tools/crash --kills 6 --pace 0.5 --demo smtp
else
	echo "the mail server's part is skipped: it needs node and npm"
fi
