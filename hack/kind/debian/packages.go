// Package debian installs the few programs that come from Debian instead of Go modules, and prints
// what it installs.
package debian

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/securenotes/securenotes/hack/kind/proc"
)

// packages maps a program to the package that provides it.
var packages = map[string]string{
	"dockerd":                            "docker.io",
	"docker":                             "docker.io",
	"runc":                               "runc",
	"iptables":                           "iptables",
	"nft":                                "nftables",
	"ip":                                 "iproute2",
	"debootstrap":                        "debootstrap",
	Postgres15:                           "postgresql-15",
	Redis:                                "redis-tools",
	HAProxy:                              "haproxy",
	PgBouncer:                            "pgbouncer",
	Age:                                  "age",
	Zstd:                                 "zstd",
	JQ:                                   "jq",
	OpenSSL:                              "openssl",
	"gcc":                                "gcc",
	"git":                                "git",
	"/usr/include/stdio.h":               "libc6-dev",
	"/etc/ssl/certs/ca-certificates.crt": "ca-certificates",
}

// Postgres15 is the path of the server, which is not in PATH.
const Postgres15 = "/usr/lib/postgresql/15/bin/postgres"

// Redis is the server's program under the name of its checker. Only the package redis-server has it
// under its own name, and that package would start a server.
const Redis = "/usr/bin/redis-check-rdb"

// HAProxy is the path of the proxy, which is not in an unprivileged user's PATH. With systemd, the
// package also starts a server, which opens no port by default.
const HAProxy = "/usr/sbin/haproxy"

// PgBouncer is the path of the pooler.
const PgBouncer = "/usr/sbin/pgbouncer"

// Programs that open a backup by hand.
const (
	Age     = "/usr/bin/age"
	Zstd    = "/usr/bin/zstd"
	JQ      = "/usr/bin/jq"
	OpenSSL = "/usr/bin/openssl"
)

// Missing returns the packages of the programs that are not installed.
func Missing(programs ...string) []string {
	var out []string
	seen := map[string]bool{}
	for _, p := range programs {
		if pkg := packages[p]; !Has(p) && !seen[pkg] {
			seen[pkg] = true
			out = append(out, pkg)
		}
	}
	return out
}

// Has reports whether a program, or a file with the given path, exists. It also looks in sbin,
// which the PATH of an unprivileged user or of a CI job often lacks.
func Has(program string) bool {
	if filepath.IsAbs(program) {
		_, err := os.Stat(program)
		return err == nil
	}
	if _, err := exec.LookPath(program); err == nil {
		return true
	}
	_, err := os.Stat(filepath.Join("/usr/sbin", program))
	return err == nil
}

// CanInstall reports whether this process may install Debian packages, and why not.
func CanInstall() (bool, string) {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return false, "this is no Debian system (no apt-get)"
	}
	if os.Geteuid() != 0 {
		return false, "only root may install packages"
	}
	return true, ""
}

// Ensure installs the packages of the programs.
func Ensure(ctx context.Context, say func(string, ...any), programs ...string) error {
	missing := Missing(programs...)
	if len(missing) == 0 {
		return nil
	}
	if ok, why := CanInstall(); !ok {
		return fmt.Errorf("missing Debian packages %s, and %s; install them, then try again", strings.Join(missing, " "), why)
	}
	say("installing Debian packages: %s (they stay when the cluster goes)", strings.Join(missing, " "))
	for _, quiet := range []func([]string) (func(), error){quietPostgres, quietPgBouncer} {
		undo, err := quiet(missing)
		defer undo()
		if err != nil {
			return err
		}
	}
	env := []string{"DEBIAN_FRONTEND=noninteractive"}
	// An interrupted installation must be completed before the next one can start.
	if err := proc.New("dpkg", "--configure", "-a").WithEnv(env...).Run(ctx); err != nil {
		return err
	}
	// Package lists may be missing or outdated.
	if err := proc.New("apt-get", "-q", "-o", "DPkg::Lock::Timeout=120", "update").WithEnv(env...).Run(ctx); err != nil {
		say("apt-get update failed, going on with the lists that are there: %v", err)
	}
	args := append([]string{"-q", "-y", "--no-install-recommends", "-o", "Dpkg::Use-Pty=0", "-o", "DPkg::Lock::Timeout=120", "install"}, missing...)
	return proc.New("apt-get", args...).WithEnv(env...).Run(ctx)
}

// quietPostgres prevents Debian's postgresql package from creating and starting a database server.
// Only the programs are needed.
func quietPostgres(installing []string) (undo func(), err error) {
	undo = func() {}
	for _, p := range installing {
		if !strings.HasPrefix(p, "postgresql") {
			continue
		}
		const dropIn = "/etc/postgresql-common/createcluster.d/securenotes.conf"
		if err := os.MkdirAll(filepath.Dir(dropIn), 0o755); err != nil {
			return undo, err
		}
		if err := os.WriteFile(dropIn, []byte("create_main_cluster = false\n"), 0o644); err != nil {
			return undo, err
		}
		return func() { _ = os.Remove(dropIn) }, nil
	}
	return undo, nil
}

// quietPgBouncer prevents Debian's pgbouncer package from starting a pooler, now and, with systemd,
// at each boot. Only the program is needed.
func quietPgBouncer(installing []string) (undo func(), err error) {
	undo = func() {}
	if !slices.Contains(installing, "pgbouncer") {
		return undo, nil
	}
	const unit = "/etc/systemd/system/pgbouncer.service"
	if err := os.MkdirAll(filepath.Dir(unit), 0o755); err != nil {
		return undo, err
	}
	if err := os.Symlink("/dev/null", unit); err != nil && !errors.Is(err, fs.ErrExist) {
		return undo, err
	}
	// invoke-rc.d asks this program whether it may start a service; 101 forbids it.
	const policy = "/usr/sbin/policy-rc.d"
	f, err := os.OpenFile(policy, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if errors.Is(err, fs.ErrExist) {
		return undo, nil // the machine has a policy of its own, like container images
	}
	if err != nil {
		return undo, err
	}
	undo = func() { _ = os.Remove(policy) }
	_, err = f.WriteString("#!/bin/sh\nexit 101\n")
	return undo, errors.Join(err, f.Close())
}
