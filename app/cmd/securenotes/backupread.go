package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/backup"
	"github.com/securenotes/securenotes/app/internal/backup/archive"
	"github.com/securenotes/securenotes/app/internal/backup/destination"
)

// flagPublicKeys names the file that `securenotes backup public-keys` printed.
const flagPublicKeys = config.FlagPublicKeys

func addPublicKeys(command *cobra.Command, file *string) {
	command.Flags().StringVar(file, flagPublicKeys, "", "file that `securenotes backup public-keys` printed; without it, Vault's keys are used")
}

// readBackupKeys reads a file of public keys; an empty path is nil.
func readBackupKeys(path string) (*config.BackupKeys, error) {
	if path == "" {
		return nil, nil
	}
	raw, err := readBounded(path, maxPublicKeys)
	if err != nil {
		return nil, fmt.Errorf("%w: --%s: %w", errConfiguration, flagPublicKeys, err)
	}
	keys, err := config.ParseBackupKeys(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: --%s: %s: %w", errConfiguration, flagPublicKeys, path, err)
	}
	return keys, nil
}

// readBounded reads a file of at most the given size.
func readBounded(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(raw)) > most {
		err = fmt.Errorf("%s is longer than %d bytes", path, most)
	}
	return raw, err
}

// backups is a destination and the keys that its manifests are verified with.
type backups struct {
	destination destination.Destination
	keys        *config.BackupKeys
}

// openBackups opens the configured destination for reading.
func openBackups(ctx context.Context, file, publicKeys string) (*backups, error) {
	c, err := loadBackupConfig(file)
	if err != nil {
		return nil, err
	}
	kept, err := readBackupKeys(publicKeys)
	if err != nil {
		return nil, err
	}
	t, err := newTrust(ctx, c)
	if err != nil {
		return nil, err
	}
	keys, err := backup.TrustedKeys(ctx, kept, t, true, newLog(c.Log, os.Stderr))
	if err != nil {
		return nil, err
	}
	from, err := destination.New(c.Backup.Destination)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errConfiguration, err)
	}
	return &backups{from, keys}, nil
}

func backupListCommand() *cobra.Command {
	var file, publicKeys string
	command := &cobra.Command{
		Use:   "list",
		Short: "List the backups in the destination, newest first",
		Long: `List the backups in the destination, newest first.

The command checks the signatures of the manifests, and that the other files are there with the right sizes.
It reads no archive, so it checks no digests: "securenotes backup verify" does.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b, err := openBackups(cmd.Context(), file, publicKeys)
			if err != nil {
				return err
			}
			all, err := backup.List(cmd.Context(), b.destination, b.keys)
			if err != nil {
				return err
			}
			return printList(cmd.OutOrStdout(), all)
		},
	}
	requireConfig(command, &file)
	addPublicKeys(command, &publicKeys)
	return command
}

// printList prints a table. A backup that is not valid has its error in place of its content.
func printList(out io.Writer, all []backup.Found) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tSEQUENCE\tCOMPLETED\tROWS\tBYTES\tESCROW\tOF")
	for _, found := range all {
		m := found.Manifest
		if m == nil || found.Incomplete != nil {
			continue
		}
		fmt.Fprintf(table, "%s\t%d\t%s\t%d\t%d\t%s\t%s/%s\n", found.ID, m.Sequence, m.CompletedAt.UTC().Format(time.RFC3339),
			rowsOf(m), m.Archive.Size, yesNo(m.Escrow != nil), m.Deployment.Namespace, m.Deployment.Name)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, found := range all {
		if err := cmp.Or(found.Err, found.Incomplete); err != nil {
			fmt.Fprintf(out, "%s  not valid: %s\n", found.ID, err)
		}
	}
	_, err := fmt.Fprintln(out, "Only signatures and sizes were checked. `securenotes backup verify` also checks the digests.")
	return err
}

func backupShowCommand() *cobra.Command {
	var file, publicKeys, endedSHA256 string
	command := &cobra.Command{
		Use:   "show ID",
		Short: "Print what the signed manifest says of a backup",
		Args:  backupArguments(1, wantedID),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !archive.IsID(args[0]) {
				return fmt.Errorf("%w: %q is not the id of a backup: give %s", errConfiguration, args[0], wantedID)
			}
			if err := checkAccepted(endedSHA256); err != nil {
				return err
			}
			b, err := openBackups(cmd.Context(), file, publicKeys)
			if err != nil {
				return err
			}
			found, err := backup.Find(cmd.Context(), b.destination, b.keys, args[0], endedSHA256)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Backup %s is in %s. Its signature is valid.\n", found.ID, b.destination)
			printManifest(cmd.OutOrStdout(), found.Manifest, found.SHA256)
			return nil
		},
	}
	requireConfig(command, &file)
	addPublicKeys(command, &publicKeys)
	addAccepted(command, &endedSHA256)
	return command
}

func backupKeysCommand() *cobra.Command {
	var file string
	command := &cobra.Command{
		Use:   "public-keys",
		Short: "Print the public keys that verify backups, to be kept with the offline identity",
		Long: `Print the public keys that verify backups, to be kept with the offline identity.

Keep the output where Vault and the cluster are not: once both are lost, nothing else can tell a backup
from a forged one. Print it again after each KeyRotation with reason Compromise, which replaces the key.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadConfig(file)
			if err != nil {
				return err
			}
			t, err := newTrust(cmd.Context(), c)
			if err != nil {
				return err
			}
			keys, err := t.BackupKeys(cmd.Context())
			if err != nil {
				return err
			}
			raw, err := json.MarshalIndent(keys, "", "  ")
			if err == nil {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", raw)
			}
			return err
		},
	}
	requireConfig(command, &file)
	return command
}

// printManifest prints a manifest for people.
func printManifest(out io.Writer, m *archive.Manifest, sha256 string) {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(name string, values ...any) {
		fmt.Fprintf(table, "  %s\t%s\n", name, fmt.Sprint(values...))
	}
	line("sequence", m.Sequence)
	line("of", m.Deployment.Namespace+"/"+m.Deployment.Name+", deployment "+m.Deployment.ID+", UID "+m.Deployment.SecureNotesUID)
	line("started", m.StartedAt.UTC().Format(time.RFC3339))
	line("completed", m.CompletedAt.UTC().Format(time.RFC3339))
	line("program", fmt.Sprintf("%s, schema %d", m.Program, m.Schema))
	line("master key", m.MasterKey.Name+", versions "+versionsOf(m))
	line("peppers", cmp.Or(strings.Join(m.Peppers, ", "), "none"))
	line("rows", rowsOf(m))
	for _, name := range slices.Sorted(maps.Keys(m.Rows)) {
		line("  "+name, m.Rows[name])
	}
	line("archive", fmt.Sprintf("%d bytes, SHA-256 %s", m.Archive.Size, m.Archive.SHA256))
	if m.Escrow != nil {
		line("escrow", fmt.Sprintf("%d bytes, SHA-256 %s", m.Escrow.Size, m.Escrow.SHA256))
	}
	line("manifest", "SHA-256 "+sha256)
	_ = table.Flush()
}

func versionsOf(m *archive.Manifest) string {
	versions := make([]string, len(m.MasterKey.Versions))
	for i, version := range m.MasterKey.Versions {
		versions[i] = fmt.Sprint(version.Version)
	}
	return strings.Join(versions, ", ")
}

// rowsOf returns the number of rows in a backup.
func rowsOf(m *archive.Manifest) (total int64) {
	for _, rows := range m.Rows {
		total += rows
	}
	return total
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}
