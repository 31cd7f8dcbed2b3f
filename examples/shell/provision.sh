#!/usr/bin/env bash
# Brings apictl to a state, as Ansible would: a schema, a superuser, a role, a machine's account that has it, and its key.
# What is so already is left alone and said to be ok; run twice, the second run changes nothing.
#
# How to run it: set APICTL_DATABASE_URL (without it, `apictl migrate` first makes a PostgreSQL in this folder), then
#
#     ADMIN=you@example.com ./provision.sh
#
# The superuser's password is made once, in the file secrets/admin.password, where you find it. The exit code is apictl's:
# 7 is worth another try.
set -euo pipefail

admin=${ADMIN:?set it to the e-mail address of the first superuser}
secrets=${SECRETS:-secrets}
changed=0

# step WHAT COMMAND...: run a command of apictl that tells whether it changed anything.
step() {
    local what=$1 said
    shift
    said=$("$@" --quiet --fields changed)
    if [[ $said == true ]]; then
        changed=$((changed + 1))
        echo "changed  $what"
    else
        echo "ok       $what"
    fi
}

if [[ ! -e $secrets/admin.password ]]; then
    (umask 077 && mkdir -p "$secrets" && openssl rand -base64 24 >"$secrets/admin.password")
fi

step "schema and superuser $admin" \
    apictl bootstrap "$admin" --password-file "$secrets/admin.password"

# A role is created where there is none, and then is what it says here, whoever changed it.
if apictl show-role reports --quiet >/dev/null 2>&1; then :; else
    step "role reports" apictl create-role reports
fi
step "scopes of reports" apictl update-role reports --scope users:read --description "Reads users"
step "account nightly-report" \
    apictl create-service-account nightly-report --full-name "Writes the nightly report" --if-exists skip
step "role of nightly-report" apictl grant-role nightly-report reports
step "key of nightly-report" \
    apictl bootstrap "$admin" --key-file "$secrets/nightly-report.key" --key-owner nightly-report \
    --key-name "nightly report" --key-scope users:read

echo "changed=$changed"
