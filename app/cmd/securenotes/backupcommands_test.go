package main

import (
	"database/sql"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/backup/archive"
	"github.com/securenotes/securenotes/app/internal/deployment"
)

// TestBackupCommands runs each command that reads backups, with what a development server has.
func TestBackupCommands(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	client, url, stop := devServer(t, dir)
	post(t, client, url+"/api/auth/register", "", aliceCredentials)
	stop()
	configuration, identity, backups := filepath.Join(dir, devConfigFile), filepath.Join(dir, devIdentityFile), filepath.Join(dir, devBackups)
	first := printedID.FindString(mustRun(t, "backup", "--config", configuration))
	second := printedID.FindString(mustRun(t, "backup", "--config", configuration))
	manifest := filepath.Join(backups, archive.ManifestName(first))

	raw := mustRun(t, "backup", "public-keys", "--config", configuration)
	var published config.BackupKeys
	if err := json.Unmarshal([]byte(raw), &published); err != nil || len(published.Versions) != 1 {
		t.Fatalf("public-keys prints %s: %v", raw, err)
	}
	keys := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(keys, []byte(raw), 0o600); err != nil {
		t.Fatal(err)
	}
	junk := archive.NewID(published.Versions[0].Since)
	if err := os.WriteFile(filepath.Join(backups, archive.ManifestName(junk)), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}

	third := printedID.FindString(mustRun(t, "backup", "--config", configuration))
	if err := os.Truncate(filepath.Join(backups, archive.Name(third, archive.KindArchive, false)), 10); err != nil {
		t.Fatal(err)
	}
	fourth := printedID.FindString(mustRun(t, "backup", "--config", configuration))
	if err := os.Remove(filepath.Join(backups, archive.Name(fourth, archive.KindEscrow, false))); err != nil {
		t.Fatal(err)
	}
	list := mustRun(t, "backup", "list", "--config", configuration)
	lines := strings.Split(strings.TrimSpace(list), "\n")
	if len(lines) != 7 || !strings.Contains(list, third+"  not valid: "+archive.Name(third, archive.KindArchive, false)+": it has 10 bytes") ||
		!strings.Contains(list, fourth+"  not valid: "+archive.Name(fourth, archive.KindEscrow, false)+": there is no such file") ||
		!strings.Contains(lines[6], "also checks the digests") || !strings.Contains(list, first+"  ") || !strings.Contains(list, second+"  ") || !strings.Contains(list, junk+"  not valid: ") {
		t.Errorf("list prints:\n%s", list)
	}
	for what, printed := range map[string]string{
		"show":              mustRun(t, "backup", "show", first, "--config", configuration),
		"verify":            mustRun(t, "backup", "verify", manifest, "--public-keys", keys),
		"verify everything": mustRun(t, "backup", "verify", manifest, "--public-keys", keys, "--identity", identity),
	} {
		for _, want := range []string{first, "sequence", "dev/dev, deployment dev", "local, versions 1", "users", "SHA-256"} {
			if !strings.Contains(printed, want) {
				t.Errorf("%s does not print %q:\n%s", what, want, printed)
			}
		}
		if decrypted := strings.Contains(printed, "archive and escrow file were read completely, and all 0 values were opened"); decrypted != (what == "verify everything") {
			t.Errorf("%s prints:\n%s", what, printed)
		}
	}

	all := []string{filepath.Join(backups, archive.ManifestName(third)), filepath.Join(backups, archive.ManifestName(junk)), manifest}
	printed, err := runPrinting(t, append([]string{"backup", "verify", "--public-keys", keys}, all...)...)
	if err == nil || !strings.Contains(err.Error(), "2 of 3 backups are not valid or have damaged values") || !strings.Contains(printed, first+": signature and digests are valid") ||
		!strings.Contains(printed, all[0]+": not valid: ") || !strings.Contains(printed, all[1]+": not valid: ") {
		t.Errorf("verify prints %v:\n%s", err, printed)
	}
	if termination, _ := outcome(err); termination.Reason != config.ReasonBackupRefused {
		t.Errorf("verify ends with %s", termination.Reason)
	}

	once, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	onceFile, output := filepath.Join(t.TempDir(), "once"), t.TempDir()
	if err := os.WriteFile(onceFile, []byte(once.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	mustRun(t, "backup", "rekey", manifest, "--public-keys", keys, "--identity", identity, "--recipient", once.Recipient().String(), "--output", output)
	copied := filepath.Join(output, archive.ManifestName(first))
	if printed := mustRun(t, "backup", "verify", copied, "--public-keys", keys, "--identity", onceFile); !strings.Contains(printed, "archive and escrow file were read completely") {
		t.Errorf("verify of the copy prints:\n%s", printed)
	}
	for _, file := range []string{"notes.db", "notes.db-wal", "notes.db-shm"} {
		if err := os.Remove(filepath.Join(dir, file)); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	if _, err := runPrinting(t, "backup", "--config", configuration); !errors.Is(err, deployment.ErrLost) {
		t.Errorf("backup of a file that is gone: %v", err)
	}
	other := filepath.Join(t.TempDir(), "other")
	if _, err := ensureDevIdentity(other); err != nil {
		t.Fatal(err)
	}
	if _, err := runPrinting(t, "restore", manifest, "--older", "--config", configuration, "--identity", other); err == nil || !strings.Contains(err.Error(), "give --identity with") {
		t.Errorf("restore with another identity: %v", err)
	}
	mustRun(t, "restore", copied, "--config", configuration, "--identity", onceFile, "--escrow-identity", onceFile)
}

// TestDamageInDevelopment checks what the commands print of a backup with a note that does not
// open: the offline check and the restore name it, and with the option all the rest is restored.
func TestDamageInDevelopment(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	client, url, stop := devServer(t, dir)
	post(t, client, url+"/api/auth/register", "", aliceCredentials)
	token := post(t, client, url+"/api/auth/login", "", aliceCredentials)["token"].(string)
	damaged := post(t, client, url+"/api/notes", token, `{"content":"the content"}`)["id"].(string)
	intact := post(t, client, url+"/api/notes", token, `{"content":"another"}`)["id"].(string)
	stop()
	configuration, identity, backups := filepath.Join(dir, devConfigFile), filepath.Join(dir, devIdentityFile), filepath.Join(dir, devBackups)
	keys := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(keys, []byte(mustRun(t, "backup", "public-keys", "--config", configuration)), 0o600); err != nil {
		t.Fatal(err)
	}
	good := printedID.FindString(mustRun(t, "backup", "--config", configuration))
	db, err := sql.Open("sqlite", filepath.Join(dir, config.DatabaseFile))
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.ExecContext(t.Context(), "UPDATE notes SET revision = 2 WHERE id = $1", damaged)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	bad := printedID.FindString(mustRun(t, "backup", "--config", configuration))

	goodFile, badFile := filepath.Join(backups, archive.ManifestName(good)), filepath.Join(backups, archive.ManifestName(bad))
	named := "1 value is damaged: notes.content of row " + damaged + " of owner "
	printed, err := runPrinting(t, "backup", "verify", goodFile, badFile, "--public-keys", keys, "--identity", identity)
	if err == nil || !strings.Contains(err.Error(), "1 of 2 backups are not valid or have damaged values") ||
		!strings.Contains(printed, good+": signature and digests are valid; archive and escrow file were read completely, and all 2 values were opened") ||
		!strings.Contains(printed, badFile+": has damaged values: backup "+bad+": "+named) {
		t.Errorf("verify ends with %v and prints:\n%s", err, printed)
	}
	if err := os.Remove(filepath.Join(dir, config.DatabaseFile)); err != nil {
		t.Fatal(err)
	}
	restore := []string{"restore", bad, "--config", configuration, "--identity", identity}
	_, err = runPrinting(t, restore...)
	if termination, exit := outcome(err); termination.Reason != config.ReasonBackupRefused || exit != config.ExitConfiguration ||
		!strings.Contains(termination.Message, named) || !strings.Contains(termination.Message, "--accept-damaged") {
		t.Errorf("restore ends with %+v, exit %d", termination, exit)
	}
	if printed := mustRun(t, append(restore, "--accept-damaged")...); !strings.Contains(printed, named) || !strings.Contains(printed, "stay unreadable") {
		t.Errorf("restore prints:\n%s", printed)
	}
	client, url, stop = devServer(t, dir)
	defer stop()
	token = post(t, client, url+"/api/auth/login", "", aliceCredentials)["token"].(string)
	for id, want := range map[string]int{damaged: http.StatusInternalServerError, intact: http.StatusOK} {
		if status, body := get(t, client, url+"/api/notes/"+id, token); status != want {
			t.Errorf("note %s: %d %s, want %d", id, status, body, want)
		}
	}
}

// secretIdentity is a valid age identity that is not in a file.
const secretIdentity = "AGE-SECRET-KEY-1RJDCHX7UY4VKTND5HQNZLTAHJVJD8W7ZTWG24EA99YJC9J5RYSFQCC73D4"

// TestBackupCommandErrors checks the exit codes and messages of wrong command lines and files.
func TestBackupCommandErrors(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if _, err := devDirectory(devOptions{listen: "127.0.0.1:0", data: dir}); err != nil {
		t.Fatal(err)
	}
	configuration, identity := filepath.Join(dir, devConfigFile), filepath.Join(dir, devIdentityFile)
	id := archive.NewID(time.Now())
	keys := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(keys, []byte(mustRun(t, "backup", "public-keys", "--config", configuration)), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		args []string
		says string
		exit int
	}{
		"no such backup":           {[]string{"restore", id, "--config", configuration, "--identity", identity}, "backup list", config.ExitConfiguration},
		"not a manifest":           {[]string{"restore", "notes.txt", "--config", configuration}, "ID.manifest.json", config.ExitConfiguration},
		"bad SHA-256":              {[]string{"restore", id, "--config", configuration, "--accept-sha256", "x"}, "--accept-sha256", config.ExitConfiguration},
		"no argument":              {[]string{"restore", "--config", configuration}, "the id of a backup, such as 2", config.ExitConfiguration},
		"empty argument":           {[]string{"restore", "", "--config", configuration}, "the id of a backup, such as 2", config.ExitConfiguration},
		"two ids":                  {[]string{"backup", "show", id, id, "--config", configuration}, "the id of a backup, such as 2", config.ExitConfiguration},
		"show what is no id":       {[]string{"backup", "show", "x", "--config", configuration}, "the id of a backup, such as 2", config.ExitConfiguration},
		"verify nothing":           {[]string{"backup", "verify", "--public-keys", "/nowhere"}, "the path of the manifest", config.ExitConfiguration},
		"rekey nothing":            {[]string{"backup", "rekey", "--public-keys", "/nowhere", "--identity", identity, "--recipient", "x", "--output", dir}, "the path of the manifest", config.ExitConfiguration},
		"show, bad SHA-256":        {[]string{"backup", "show", id, "--config", configuration, "--accept-sha256", "x"}, "--accept-sha256", config.ExitConfiguration},
		"an identity, and no path": {[]string{"restore", id, "--config", configuration, "--identity", secretIdentity}, "--identity: a path is expected", config.ExitConfiguration},
		"an identity with quotes":  {[]string{"backup", "verify", id + ".manifest.json", "--public-keys", keys, "--identity", "'" + strings.ToLower(secretIdentity)}, "--identity: a path is expected", config.ExitConfiguration},
		"an identity for rekey": {[]string{
			"backup", "rekey", id + ".manifest.json", "--public-keys", keys, "--identity", secretIdentity, "--recipient", "age1x", "--output", dir,
		}, "--identity: a path is expected", config.ExitConfiguration},
		"an identity of the escrow, and no path": {
			[]string{"restore", id, "--config", configuration, "--identity", identity, "--escrow-identity", secretIdentity}, "--escrow-identity: a path is expected", config.ExitConfiguration,
		},
		"an identity as the recipient": {[]string{
			"backup", "rekey", id + ".manifest.json", "--public-keys", keys, "--identity", identity, "--recipient", secretIdentity, "--output", dir,
		}, "--recipient", config.ExitConfiguration},
		"no escrow identity":      {[]string{"restore", id, "--config", configuration, "--escrow-identity", "/nowhere"}, "--escrow-identity: ", config.ExitConfiguration},
		"no database":             {[]string{"backup", "--config", configuration}, "the database is lost", config.ExitRetryable},
		"no configuration":        {[]string{"backup", "list", "--config", "/nowhere"}, "configuration: open /nowhere", config.ExitConfiguration},
		"no identities file":      {[]string{"restore", id, "--config", configuration, "--identity", "/nowhere"}, "/nowhere", config.ExitConfiguration},
		"no keys file":            {[]string{"backup", "verify", id + ".manifest.json", "--public-keys", "/nowhere"}, "--public-keys", config.ExitConfiguration},
		"keys are something else": {[]string{"backup", "verify", id + ".manifest.json", "--public-keys", configuration}, "backup public-keys", config.ExitConfiguration},
		"no manifest":             {[]string{"backup", "verify", "/nowhere/" + id + ".manifest.json", "--public-keys", keys}, "/nowhere", config.ExitConfiguration},
		"bad recipient": {[]string{
			"backup", "rekey", id + ".manifest.json", "--public-keys", keys, "--identity", identity, "--recipient", "age1x", "--output", dir,
		}, "--recipient", config.ExitConfiguration},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := runPrinting(t, tc.args...)
			if err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Fatalf("the error is %v, want one with %q", err, tc.says)
			}
			if strings.Contains(strings.ToUpper(err.Error()), secretIdentity) {
				t.Errorf("the error quotes an identity: %v", err)
			}
			if strings.Contains(err.Error(), "configuration: configuration") {
				t.Errorf("the error is %v", err)
			}
			if termination, exit := outcome(err); exit != tc.exit {
				t.Errorf("%v: reason %s, exit %d; want exit %d", err, termination.Reason, exit, tc.exit)
			}
		})
	}
}
