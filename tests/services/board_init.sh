#!/bin/bash
# A board's first process, in namespaces of its own: mounts the board's disk as the root, starts sshd and the engine, and
# lives until its stdin ends, so that no board outlives its test. The board's folder and values come by the environment.
set -eu
cd "$BOARD"

# Its own disk is what it changes on its system's; homes and the engine's data are plain folders, as an engine needs.
mount -t overlay board -o "lowerdir=$BOARD_SYSTEM,upperdir=upper,workdir=work" root
mount --rbind /dev root/dev
mount --rbind /sys root/sys
mount -t proc proc root/proc
for folder in run tmp dev/shm; do
    mount -t tmpfs -o mode=1777 "$folder" "root/$folder"
done
chmod 755 root/run
# A board where QEMU runs foreign programs must not look like one that runs them itself.
[ ! -d /proc/sys/fs/binfmt_misc ] || mount --rbind /proc/sys/fs/binfmt_misc root/proc/sys/fs/binfmt_misc
for folder in root home var/lib/docker var/lib/containerd var/tmp; do
    mkdir -p "root/$folder"
    mount --bind "disk/${folder//\//-}" "root/$folder"
done
for disk in $BOARD_DISKS; do # folder=image
    mkdir -p "root/${disk%%=*}"
    mount -o loop "${disk#*=}" "root/${disk%%=*}"
done
mount --bind boot-id root/proc/sys/kernel/random/boot_id

mkdir -p root/mnt/below
pivot_root root root/mnt/below
cd /
board=/mnt/below$BOARD
hostname "$(cat /etc/hostname)"
mkdir -p -m 1777 /run/lock
mkdir -p -m 755 /run/sshd /var/log

if [ ! -e "$board/installed" ]; then
    if [ "$BOARD_USER" != root ]; then
        id "$BOARD_USER" >/dev/null 2>&1 || useradd "$BOARD_USER"
        usermod --groups "$BOARD_GROUPS" "$BOARD_USER"
    fi
    # Without a password it would be locked, for keys too.
    usermod --home "$BOARD_HOME" --shell "$(command -v "$BOARD_SHELL")" --password '*' "$BOARD_USER"
    [ -z "$BOARD_PASSWORD" ] || echo "$BOARD_USER:$BOARD_PASSWORD" | chpasswd --crypt-method SHA512
    cp -RT /etc/skel "$BOARD_HOME"
    cp -RT "$board/home" "$BOARD_HOME"
    chown -R "$BOARD_USER:" "$BOARD_HOME"
    chmod 750 "$BOARD_HOME"
    set -f
    for name in $BOARD_HIDDEN; do
        find /usr/local/bin /usr/local/sbin /usr/bin /usr/sbin /usr/libexec ! -type d -name "$name" -delete
    done
    set +f
    touch "$board/installed"
fi

for mount in $BOARD_MOUNTS; do # folder=options
    mount --bind "${mount%%=*}" "${mount%%=*}"
    mount -o "remount,bind,${mount#*=}" "${mount%%=*}"
done
umount --lazy /mnt/below
engine=$BOARD_ENGINE containerd=$BOARD_CONTAINERD environment=$BOARD_ENGINE_ENVIRONMENT
unset "${!BOARD@}"

if [ -n "$containerd" ]; then
    containerd >/var/log/containerd.log 2>&1 </dev/null &
    until [ -S /run/containerd/containerd.sock ]; do # the engine starts one of its own where there is none
        kill -0 $!
        sleep 0.05
    done
fi
if [ -n "$engine" ]; then
    # shellcheck disable=SC2086 # one word a variable
    env $environment dockerd >/var/log/dockerd.log 2>&1 </dev/null &
fi
/usr/sbin/sshd -E /var/log/sshd.log
# The builtin waits for the end of stdin, and meanwhile bash buries whatever was left behind.
read -r _ || true
