package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/backup"
)

// printRestored prints what was restored and what to do next.
func printRestored(out io.Writer, c *config.Config, r *backup.Restored) error {
	fmt.Fprintln(out, restoredMessage(r))
	next := "Next:"
	if c.Keys.Vault != nil {
		next = "Next, unless a NotesRestore of the operator does it:"
	}
	fmt.Fprintln(out, next)
	if r.FromEscrow && c.Keys.Vault != nil {
		command, err := markerCommand(c.Keys.Vault, r)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "  With the operator: have Vault's administrator record in the marker whose keys these are, then create the SecureNotes\n"+
			"  with spec.adoptRetainedKey:\n    %s\n", command)
		fmt.Fprintf(out, "  Without the operator, change the configuration:\n    Set deployment.id to %s: the notes are bound to it.\n"+
			"    Set keys.vault.pepper to %s and keys.vault.pepperDigest to %s.\n",
			r.Manifest.Deployment.ID, r.PepperEntry, r.PepperDigest)
	} else if r.Manifest.Deployment.ID != c.Deployment.ID {
		fmt.Fprintf(out, "  Set deployment.id to %s in the configuration: the notes are bound to it.\n", r.Manifest.Deployment.ID)
	}
	if r.FromEscrow && c.Keys.Local != nil {
		fmt.Fprintf(out, "  The service uses this entry, which is in %s beside the earlier pepper.\n", localSecretsPath(c.Keys.Local))
	}
	fmt.Fprintln(out, "  Start the service. Users log in again, with their old passwords.")
	why := "the restored rows need old versions of it, which cannot be retired before"
	if r.FromEscrow {
		why = "the owner keys have been outside Vault, in the escrow file"
	}
	_, err := fmt.Fprintf(out, "  Rotate the master key with strategy Reencrypt: %s.\n", why)
	return err
}

// markerCommand returns the command that records in Vault which deployment the keys are of, for a
// POSIX shell. It gives the fields as JSON: as arguments, all would be strings, also claimed.
func markerCommand(v *config.Vault, r *backup.Restored) (string, error) {
	fields, err := json.Marshal(map[string]any{
		"deploymentID": r.Manifest.Deployment.ID, "pepper": r.PepperEntry, "pepperDigest": r.PepperDigest, "claimed": true,
	})
	if err != nil {
		return "", fmt.Errorf("marker: %w", err)
	}
	namespace := ""
	if v.Namespace != "" {
		namespace = " -namespace=" + quoted(v.Namespace)
	}
	return fmt.Sprintf("echo %s | vault kv patch%s -mount=%s %s -", quoted(string(fields)), namespace, quoted(v.KVMount), quoted(v.KVPath+"/"+config.MarkerLeaf)), nil
}

// quoted returns a text as one word of a POSIX shell.
func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// databaseName names a database, without user and password.
func databaseName(c config.Database) string {
	if c.SQLite != nil {
		return c.SQLite.Path
	}
	named := "the database that " + c.Postgres.URIFile + " names"
	raw, err := os.ReadFile(c.Postgres.URIFile)
	if err != nil {
		return named
	}
	uri, err := url.Parse(strings.TrimSpace(string(raw)))
	if err != nil || uri.Host == "" {
		return named
	}
	return uri.Host + uri.Path
}
