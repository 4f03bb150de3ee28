#!/bin/sh
# Makes the passwords of docker-compose.yml, each a file, on first use; what is there is kept. `make secrets` runs it.
#
# Modes. Compose mounts a file secret as it is on the host, and each container reads it as another user (70, 472, 10001).
# Those are others to the file's owner, and a root without capabilities is held to the mode bits as well. So a file must
# be readable for all (0644), and the folder is what protects it: 0700, so on the host nobody but its owner (and root)
# gets to a file. Docker mounts the file past the folder.
#
# Characters: letters and digits alone. Grafana expands $ in what it reads from a file, and a URL or a shell would need
# quoting. 40 of them are 238 bits.
set -eu
cd "$(dirname "$0")/.."
folder=${SECRETS_FOLDER:-.secrets}
names="database_owner_password database_flows_password grafana_db_password grafana_admin_password grafana_secret_key"

umask 077
mkdir -p "$folder"
chmod 0700 "$folder"
made=
for name in $names; do
    file=$folder/$name
    if [ ! -e "$file" ]; then
        # not straight into the file: who is interrupted here, or runs this twice at once, leaves no half of a password
        # Debian's `tr` takes bytes, macOS's takes them only in the C locale
        LC_ALL=C tr -dc 'A-Za-z0-9' </dev/urandom 2>/dev/null | head -c 40 >"$file.$$"
        chmod 0644 "$file.$$"
        ln "$file.$$" "$file" 2>/dev/null && made="$made $name"
        rm -f "$file.$$"
    fi
    chmod 0644 "$file"
    if ! LC_ALL=C grep -Eqx '[A-Za-z0-9_-]{16,}' "$file" || [ "$(grep -c '' "$file")" -ne 1 ]; then
        echo "secrets: $file must be one line of 16 or more letters, digits, _ or -; remove it to get a new one" >&2
        exit 1
    fi
done
echo "secrets: in $folder/${made:+, new:$made}"
