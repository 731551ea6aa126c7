package main

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/reencrypt"
)

// TestArgumentsParse checks that the subcommands parse what the operator renders to the same
// values.
func TestArgumentsParse(t *testing.T) {
	rotation := config.Rotation{ToVersion: 7, Strategy: "Rewrap"}
	urgent := rotation
	urgent.Urgent = true
	reencryption := config.Reencryption{
		Rotation: rotation, Shards: 8, ProgressConfigMap: "demo/progress", Job: "notes-rotate-v7-1", MaxNotesPerSecond: config.MaxNotesPerSecond,
	}
	compromise := reencryption
	compromise.Urgent, compromise.EndSessions = true, time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600))
	const api, jobs = "/etc/securenotes/config/api.yaml", "/etc/securenotes/config/rotation.yaml"
	verified := map[string]string{"config": jobs, "to-version": "7", "strategy": "Rewrap"}
	reencrypted := with(verified, "shard", "3", "shards", "8", "progress-configmap", "demo/progress", "job", "notes-rotate-v7-1")
	const id = "20261130T013000Z-k3v7m2qx5jd4w6ra"
	restored := map[string]string{"config": "/etc/securenotes/config/restore.yaml", "identity": "/etc/securenotes/identity/identity.txt"}
	everything := config.Restoration{
		ID: id, PublicKeys: true, FromEscrow: true, Older: true, AcceptDamaged: true, Overwrite: true, AcceptSHA256: strings.Repeat("a", 64),
	}
	for name, tc := range map[string]struct {
		args    []string
		command string
		want    map[string]string
	}{
		"migrate":              {args: config.MigrateArgs(), command: "migrate", want: map[string]string{"config": api}},
		"serve":                {args: config.ServeArgs("", ""), command: "serve", want: map[string]string{"config": api}},
		"serve after a change": {args: config.ServeArgs("session-keys-2", "ab"), command: "serve", want: map[string]string{"config": api, "session-keys": "session-keys-2", "session-keys-digest": "ab"}},
		"backup":               {args: config.BackupArgs(), command: "backup", want: map[string]string{"config": "/etc/securenotes/config/backup.yaml"}},
		"verify":               {args: rotation.VerifyArgs(), command: "verify", want: verified},
		"verify, urgent":       {args: urgent.VerifyArgs(), command: "verify", want: with(verified, "urgent", "true")},
		"reencrypt":            {args: reencryption.Args(), command: "reencrypt", want: with(reencrypted, "max-notes-per-second", "1000000")},
		"reencrypt after a compromise": {
			args: compromise.Args(), command: "reencrypt", want: with(reencrypted, "urgent", "true", "end-sessions", "2026-01-02T02:04:05Z"),
		},
		"restore": {args: config.Restoration{ID: id}.Args(), command: "restore", want: restored},
		"restore with everything": {
			args: everything.Args(), command: "restore",
			want: with(restored, "escrow-identity", "/etc/securenotes/escrow-identity/identity.txt", "public-keys", "/etc/securenotes/config/public-keys.json",
				"older", "true", "accept-damaged", "true", "overwrite", "true", "accept-sha256", strings.Repeat("a", 64)),
		},
	} {
		t.Run(name, func(t *testing.T) {
			parsed, err := parse(tc.args)
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			parsed.Flags().Visit(func(f *pflag.Flag) { got[f.Name] = f.Value.String() })
			if parsed.Name() != tc.command || !maps.Equal(got, tc.want) {
				t.Errorf("%s parses as %s with %v, want %s with %v", tc.args, parsed.Name(), got, tc.command, tc.want)
			}
		})
	}
}

// TestArgumentsOfManifestsParse checks that the subcommands accept the arguments of every container
// in the operator's golden manifests.
func TestArgumentsOfManifestsParse(t *testing.T) {
	files, err := filepath.Glob("../../../controllers/internal/operand/testdata/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	commands := map[string]int{}
	for _, file := range files {
		for _, container := range containers(t, file) {
			parsed, err := parse(container.Args)
			if err != nil {
				t.Errorf("%s: container %s: %s: %v", file, container.Name, container.Args, err)
				continue
			}
			if strategy := parsed.Flags().Lookup(config.FlagStrategy); strategy != nil {
				if _, err := reencrypt.ParseStrategy(strategy.Value.String()); err != nil {
					t.Errorf("%s: container %s: %v", file, container.Name, err)
				}
			}
			commands[parsed.Name()]++
		}
	}
	want := map[string]int{"serve": len(files), "backup": len(files), "migrate": len(files), "reencrypt": len(files), "verify": len(files)}
	if len(files) == 0 || !maps.Equal(commands, want) {
		t.Errorf("%d manifests run %v, want %v", len(files), commands, want)
	}
}

// containers returns the containers of all pod templates in a manifest.
func containers(t *testing.T, file string) []corev1.Container {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all []corev1.Container
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(raw), len(raw))
	for {
		var object struct {
			Spec struct {
				Template corev1.PodTemplateSpec `json:"template"`
			} `json:"spec"`
		}
		err := decoder.Decode(&object)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all = append(all, object.Spec.Template.Spec.InitContainers...)
		all = append(all, object.Spec.Template.Spec.Containers...)
	}
}

// parse parses arguments as Execute does, with the shard's index filled in, and does not run the
// subcommand.
func parse(args []string) (*cobra.Command, error) {
	args = strings.Split(strings.ReplaceAll(strings.Join(args, "\n"), config.ShardIndex, "3"), "\n")
	found, rest, err := command().Find(args)
	if err != nil {
		return nil, err
	}
	if err := found.ParseFlags(rest); err != nil {
		return nil, err
	}
	if err := found.ValidateArgs(found.Flags().Args()); err != nil {
		return nil, err
	}
	if err := found.ValidateRequiredFlags(); err != nil {
		return nil, err
	}
	return found, found.ValidateFlagGroups()
}

// with returns a copy of values with more entries, given as alternating names and values.
func with(values map[string]string, more ...string) map[string]string {
	all := maps.Clone(values)
	for i := 0; i < len(more); i += 2 {
		all[more[i]] = more[i+1]
	}
	return all
}
