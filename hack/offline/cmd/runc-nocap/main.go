// Command runc-nocap is runc for machines whose capability bounding set lacks CAP_SYS_RESOURCE.
//
// There, runc refuses every container and every exec that asks for it ("unable to apply caps:
// operation not permitted"), and a privileged container, such as a kind node, asks for all. This
// wrapper removes what the machine cannot grant from what is asked and then becomes runc. Where the
// capability is there it changes nothing.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	missing    = "CAP_SYS_RESOURCE"
	missingNum = unix.CAP_SYS_RESOURCE
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "runc-nocap:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if granted, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(missingNum), 0, 0, 0); err == nil && granted == 0 {
		if bundle := option(args, "bundle", "b"); bundle != "" {
			if err := rewrite(filepath.Join(bundle, "config.json"), "process"); err != nil {
				return err
			}
		}
		if process := option(args, "process", "p"); process != "" {
			if err := rewrite(process, ""); err != nil {
				return err
			}
		}
	}
	for _, runc := range []string{"/usr/sbin/runc", "/usr/bin/runc", "/usr/local/sbin/runc"} {
		if _, err := os.Stat(runc); err == nil {
			return syscall.Exec(runc, append([]string{runc}, args...), os.Environ())
		}
	}
	return fmt.Errorf("runc is not installed")
}

// option finds the value of a long or short flag in runc's arguments.
func option(args []string, long, short string) string {
	for i, a := range args {
		if v, ok := strings.CutPrefix(a, "--"+long+"="); ok {
			return v
		}
		if (a == "--"+long || a == "-"+short) && i+1 < len(args) {
			return args[i+1]
		}
	}
	return ""
}

// rewrite drops the capability from a runtime-spec file. field names the object that holds
// "capabilities"; empty means the top level.
func rewrite(path, field string) error {
	b, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return nil // not a call that carries one
	}
	if err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber() // 64-bit limits must not pass through a float
	var spec map[string]any
	if err := dec.Decode(&spec); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	process := spec
	if field != "" {
		process, _ = spec[field].(map[string]any)
	}
	caps, _ := process["capabilities"].(map[string]any)
	for set, v := range caps {
		list, _ := v.([]any)
		kept := make([]any, 0, len(list))
		for _, c := range list {
			if c != missing {
				kept = append(kept, c)
			}
		}
		caps[set] = kept
	}
	out, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	return os.WriteFile(path, out, 0o600)
}
