//go:build integration

package archive_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/securenotes/securenotes/app/internal/backup/archive"
	"github.com/securenotes/securenotes/hack/testenv"
)

// commands matches the blocks of docs/backup-format.md with commands, each with what it prints.
var commands = regexp.MustCompile("(?m)^```sh\n((?:.*\n)*?)```\n(?:\n```text\n((?:.*\n)*?)```\n)?")

// writeByHand writes a backup whose files are opened by hand, with the files that this needs.
func writeByHand(t *testing.T, dir string, identity, escrow age.Identity, recipient, escrowRecipient age.Recipient) {
	t.Helper()
	main, written := write(t, recipient, archiveContents(goldenID), sampleRows())
	keys, writtenKeys := write(t, escrowRecipient, escrowContents(goldenID), sampleEscrowRows())
	for name, content := range map[string][]byte{
		archive.Name(goldenID, archive.KindArchive, false): main,
		archive.Name(goldenID, archive.KindEscrow, false):  keys,
		archive.ManifestName(goldenID):                     sealed(t, current(), sampleManifest(goldenID, written, &writtenKeys.File)),
		"identity.txt":                                     []byte(identity.(interface{ String() string }).String() + "\n"),
		"escrow.txt":                                       []byte(escrow.(interface{ String() string }).String() + "\n"),
		"public-keys.json":                                 directory(golden).read(t, "public-keys.json"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// openByHand runs the commands of docs/backup-format.md in dir, and compares what they print. It
// returns the first block that failed or printed something else.
func openByHand(t *testing.T, dir, path string) (failed, output string) {
	t.Helper()
	page, err := os.ReadFile("../../../../docs/backup-format.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := commands.FindAllStringSubmatch(string(page), -1)
	if len(blocks) < 8 {
		t.Fatalf("docs/backup-format.md has only %d blocks of commands: has its format changed?", len(blocks))
	}
	const separator = "\x1e"
	script := "exec 2>&1\n"
	for _, block := range blocks {
		script += block[1] + "printf '\\036'\n"
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-eu", "-c", script)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "PATH="+path, "LC_ALL=C")
	out, err := cmd.Output()
	printed := strings.Split(string(out), separator)
	for i, block := range blocks {
		if i == len(printed)-1 || printed[i] != block[2] { // the last one has no separator
			return block[1], printed[i]
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return "", ""
}

// TestOpenedByHand opens backups with the commands of docs/backup-format.md: for X25519 recipients
// with Debian's age, for hybrid ones with the age command of the module that wrote them.
func TestOpenedByHand(t *testing.T) {
	testenv.Programs(t, "age", "zstd", "tar", "jq", "openssl")
	bin := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(bin, "age"), "filippo.io/age/cmd/age").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, out)
	}
	hybrid, escrow := newHybrid(t), newHybrid(t)
	classic, classicEscrow := newIdentity(t), newIdentity(t)
	for name, tc := range map[string]struct {
		identity, escrow            age.Identity
		recipient, escrowRecipients age.Recipient
		path                        string
	}{
		"X25519": {classic, classicEscrow, classic.Recipient(), classicEscrow.Recipient(), os.Getenv("PATH")},
		"hybrid": {hybrid, escrow, hybrid.Recipient(), escrow.Recipient(), bin + ":" + os.Getenv("PATH")},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			writeByHand(t, dir, tc.identity, tc.escrow, tc.recipient, tc.escrowRecipients)
			if failed, output := openByHand(t, dir, tc.path); failed != "" {
				t.Errorf("the commands\n%sprint\n%s", failed, output)
			}
		})
	}
}

// TestChecksByHand checks that the commands of docs/backup-format.md find what is wrong.
func TestChecksByHand(t *testing.T) {
	testenv.Programs(t, "age", "zstd", "tar", "jq", "openssl")
	identity, escrow := newIdentity(t), newIdentity(t)
	main := archive.Name(goldenID, archive.KindArchive, false)
	signedBy := func(s archive.Signer) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			_, written := write(t, identity.Recipient(), archiveContents(goldenID), sampleRows())
			replace(t, dir, archive.ManifestName(goldenID), sealed(t, s, sampleManifest(goldenID, written, nil)))
		}
	}
	for name, tc := range map[string]struct {
		change func(t *testing.T, dir string)
		failed string // a part of the block that finds it
	}{
		"another key":      {signedBy(newSigner(7, 2)), "openssl pkeyutl -verify"},
		"an ended version": {signedBy(newSigner(1, 1)), ".until"},
		"an edited archive": {func(t *testing.T, dir string) {
			raw := directory(dir).read(t, main)
			raw[len(raw)-1] ^= 1
			replace(t, dir, main, raw)
		}, "sha256sum -c"},
		"another archive": {func(t *testing.T, dir string) {
			raw, _ := write(t, identity.Recipient(), archiveContents(goldenID), nil)
			replace(t, dir, main, raw)
		}, "sha256sum -c"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			writeByHand(t, dir, identity, escrow, identity.Recipient(), escrow.Recipient())
			tc.change(t, dir)
			if failed, output := openByHand(t, dir, os.Getenv("PATH")); !strings.Contains(failed, tc.failed) {
				t.Errorf("the commands\n%sprint\n%s\nwant those with %q to fail", failed, output, tc.failed)
			}
		})
	}
}

func replace(t *testing.T, dir, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func newHybrid(t *testing.T) *age.HybridIdentity {
	t.Helper()
	identity, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return identity
}
