#!/bin/sh
# Restores a version of a mirror made by lastgood. Needs a POSIX shell and awk, and sha256sum or
# shasum to check what is restored.
#
#   sh restore.sh                          lists the versions
#   sh restore.sh VERSION TARGET [PATH]    writes a version, or one path of it, into TARGET
#
# Extended attributes and sockets come back with restore.py only.

set -u
LC_ALL=C
export LC_ALL
mirror=$(cd "$(dirname "$0")" && pwd) || exit 1
tab=$(printf '\t')
# Names are words whatever stands in them, and no patterns.
IFS='
'
set -f

fail() {
    printf '%s\n' "restore.sh: $*" >&2
    exit 1
}

# Sets $plain to a field without its escapes, newlines at its end included.
unescape() {
    if [ "$1" = - ]; then
        plain=
    else
        plain=$(printf '%b_' "$1")
        plain=${plain%_}
    fi
}

if command -v sha256sum >/dev/null 2>&1; then
    hash_of() { sha256sum | cut -d ' ' -f 1; }
elif command -v shasum >/dev/null 2>&1; then
    hash_of() { shasum -a 256 | cut -d ' ' -f 1; }
else
    printf '%s\n' 'restore.sh: no sha256sum and no shasum: nothing is checked' >&2
    hash_of() { printf unchecked; }
fi

# Whether a text is whole, and has the seal that is asked for, if one is.
is_sealed() {
    [ -f "$1" ] || return 1
    seal=$(tail -n 1 "$1" | cut -f 2)
    [ -z "${2-}" ] || [ "$seal" = "$2" ] || return 1
    found=$(sed '$d' "$1" | hash_of)
    [ "$found" = unchecked ] || [ "$found" = "$seal" ]
}

# What a path (with its escapes) may be called while a commit is under way, its own name first: by
# itself, or because a directory above it is renamed.
names() {
    printf '%s\n' "$1"
    journal=$mirror/.lastgood/journal
    is_sealed "$journal" || journal=$mirror/.lastgood/second/journal
    if is_sealed "$journal"; then
        LASTGOOD_PATH=$1 awk -F '\t' '
            function called(one, other,  number, name) {
                for (number = 1; number <= count; number++) {
                    if (index(list[number] "/", one "/") != 1) continue
                    name = other substr(list[number], length(one) + 1)
                    if (name in found) continue
                    found[name] = 1; list[++count] = name; print name
                }
            }
            BEGIN { list[++count] = ENVIRON["LASTGOOD_PATH"]; found[list[1]] = 1 }
            $1 == "keep" || $1 == "put" { called($2, $3); called($3, $2) }' "$journal"
    fi
}

# Where a text may be: each is written twice.
text_names() {
    names "$1"
    names ".lastgood/second/${1#.lastgood/}"
}

# Sets $text to the file that holds the text with this seal.
find_text() {
    text=
    for candidate in $(text_names "$1"); do
        unescape "$candidate"
        if is_sealed "$mirror/$plain" "$2"; then
            text=$mirror/$plain
            return 0
        fi
    done
    return 1
}

versions=
latest=
for name in $(text_names .lastgood/versions); do
    unescape "$name"
    if is_sealed "$mirror/$plain"; then
        seal=$(awk -F '\t' '$1 == "version" { seal = $4 } END { print seal }' "$mirror/$plain")
        versions=$mirror/$plain
        find_text .lastgood/latest "$seal" && latest=$text && break
    fi
done
[ -n "$latest" ] || fail 'the list of versions or the newest manifest is missing or damaged'
needs=$(sed -n 2p "$latest" | cut -f 2)
[ "$needs" = - ] || fail "the mirror needs a later release: $needs"

if [ $# -eq 0 ]; then
    awk -F '\t' '$1 == "version" { printf "%s  %d files  %d bytes\n", $2, $5, $6 }' "$versions"
    exit 0
fi
[ $# -eq 2 ] || [ $# -eq 3 ] || fail 'usage: sh restore.sh [VERSION TARGET [PATH]]'
target=$2
below=${3-}
below=${below#/}
below=${below%/}

# The texts from the version on, oldest first; the newest manifest is last.
list=$(mktemp) || exit 1
plan=$(mktemp) || exit 1
trap 'rm -f "$list" "$plan"' EXIT
awk -F '\t' -v name="$1" '
    $1 == "version" { if ($2 == name) on = 1; if (on) print $2 "\t" $4 }' "$versions" >"$list"
[ -s "$list" ] || fail "there is no version $1"
sed '$d' "$list" >"$plan"
set --
while IFS=$tab read -r name seal; do
    find_text ".lastgood/deltas/$name" "$seal" || fail "the delta of $name is missing or damaged"
    set -- "$@" "folder=$name" "$text"
done <"$plan"
set -- "$@" folder=latest "$latest"

# For each path of the version: kind, path, where its bytes are or what a link says, hash, time,
# mode, owner, link group. Paths keep their escapes: equal paths are equal texts.
awk -F '\t' '
    FNR == 1 { file++; folder_of[file] = folder }
    FNR > 2 && NF == 2 && $1 == "-" { state[file, $2] = "-"; seen[$2] = 1 }
    FNR > 2 && NF > 12 && $1 ~ /^[fdlpscb]$/ { state[file, $2] = $0; seen[$2] = 1 }
    function place(path,    from, i, parts, at) {
        from = 1
        for (;;) {
            for (i = from; i <= file; i++) if ((i, path) in state) break
            if (i > file || state[i, path] == "-") return "-"
            split(state[i, path], parts, "\t")
            at = parts[3]
            if (at == "lost") return "-"
            if (index(at, ":")) path = substr(at, index(at, ":") + 1)
            if (at ~ /^here/) return folder_of[i] "/" path
            from = i + 1
        }
    }
    function moment(text,    s, days, era, doe, yoe, doy, mp, d, m, y, frac) {
        s = text + 0
        frac = text
        sub(/^[^.]*/, "", frac)
        sub(/\..*/, "", text)
        s = text + 0
        days = int(s / 86400)
        if (days * 86400 > s) days--
        s -= days * 86400
        days += 719468
        era = int(days / 146097)
        if (era * 146097 > days) era--
        doe = days - era * 146097
        yoe = int((doe - int(doe / 1460) + int(doe / 36524) - int(doe / 146096)) / 365)
        doy = doe - (365 * yoe + int(yoe / 4) - int(yoe / 100))
        mp = int((5 * doy + 2) / 153)
        d = doy - int((153 * mp + 2) / 5) + 1
        m = mp < 10 ? mp + 3 : mp - 9
        y = yoe + era * 400 + (m <= 2 ? 1 : 0)
        return sprintf("%04d-%02d-%02dT%02d:%02d:%02d%sZ", y, m, d, int(s / 3600), int(s / 60) % 60, s % 60, frac)
    }
    END {
        for (path in seen) {
            for (i = 1; i <= file; i++) if ((i, path) in state) break
            if (state[i, path] == "-") continue
            split(state[i, path], f, "\t")
            at = f[1] == "f" ? place(path) : f[3]
            # A directory is sorted before what it holds.
            print f[1] "\t" path "\t" at "\t" f[5] "\t" moment(f[6]) "\t" f[7] "\t" f[8] ":" f[9] "\t" f[10]
        }
    }' "$@" | sort -t "$tab" -k 2 >"$plan"

failed=0
count=0
mkdir -p -- "$target" || exit 1
target=$(cd "$target" && pwd) || exit 1

# Sets $to to where a path goes; fails for what is not wanted.
place_of() {
    case $1 in
    . | '') [ -z "$below" ] || return 1; to=$target ;;
    /* | .. | ../* | */../* | */..) fail "a hostile path: $1" ;;
    *)
        if [ -z "$below" ]; then
            to=$target/$1
        else
            case $1 in
            "$below") if [ "$2" = d ]; then to=$target; else to=$target/${1##*/}; fi ;;
            "$below"/*) to=$target/${1#"$below"/} ;;
            *) return 1 ;;
            esac
        fi
        ;;
    esac
}

look() {
    [ "$(id -u)" -ne 0 ] || chown -h "$owner" "$to" || return 1
    if [ "$kind" != l ]; then
        chmod "$mode" "$to" || return 1
        touch -d "$time" "$to" || return 1
    else
        touch -h -d "$time" "$to" 2>/dev/null || :
    fi
}

copy() {
    [ "$at" != - ] || return 1
    for candidate in $(names "$at"); do
        unescape "$candidate"
        [ -f "$mirror/$plain" ] || continue
        found=$(hash_of <"$mirror/$plain")
        if [ "$found" = unchecked ] || [ "$found" = "$hash" ]; then
            cp "$mirror/$plain" "$to"
            return
        fi
    done
    return 1
}

entry() {
    [ "$to" = "$target" ] || mkdir -p -- "${to%/*}" || return 1
    case $kind in
    d) [ ! -h "$to" ] || rm -f -- "$to"; mkdir -p -- "$to" && chmod u+rwx "$to"; return ;;
    esac
    [ -d "$to" ] && [ ! -h "$to" ] || rm -f -- "$to" || return 1
    case $kind in
    f)
        if [ "$link" != - ]; then
            first=$(LASTGOOD_KEY="$link $hash" awk -F '\t' \
                '$1 == "f" && $8 " " $4 == ENVIRON["LASTGOOD_KEY"] { print $2; exit }' "$plan")
            if [ "$first" != "$path" ]; then
                here=$to
                unescape "$first"
                if place_of "$plain" f && [ -f "$to" ]; then
                    ln "$to" "$here"
                    return
                fi
                to=$here
            fi
        fi
        copy || return 1
        ;;
    l) unescape "$at"; ln -s -- "$plain" "$to" || return 1 ;;
    p) mkfifo "$to" || return 1 ;;
    c | b) mknod "$to" "$kind" "${at%:*}" "${at#*:}" || return 1 ;;
    *) return 1 ;;
    esac
    look
}

while IFS=$tab read -r kind path at hash time mode owner link; do
    unescape "$path"
    raw=$plain
    place_of "$raw" "$kind" || continue
    count=$((count + 1))
    if ! entry; then
        failed=$((failed + 1))
        printf '%s\n' "$raw: damaged, lost, or cannot be made" >&2
    fi
done <"$plan"

# Directories last and the deepest first: what was put into them changed their times.
sort -r -t "$tab" -k 2 "$plan" >"$list"
while IFS=$tab read -r kind path at hash time mode owner link; do
    [ "$kind" = d ] || continue
    unescape "$path"
    place_of "$plain" d && look
done <"$list"

[ "$count" -gt 0 ] || fail 'the version has nothing there'
printf '%s\n' "$((count - failed)) entries restored, $failed failed"
[ "$failed" -eq 0 ]
