package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/securenotes/securenotes/app/internal/audit"
)

// maxPublicKeys bounds the file of public keys, in bytes.
const maxPublicKeys = 1 << 20

func auditCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "audit",
		Short: "Check the audit log",
		Long: `Check the audit log.

The service writes JSON lines for each authentication attempt and each access to data, on standard
output: who, what, from where, the outcome, and the request's id; never content, passwords or tokens.
A change has a line before it happens, with the intent, and one afterwards, with the outcome.
Each process writes a chain: every line has the SHA-256 of the previous line. Every minute, and at the
end, a key in Vault signs the chain. The service can use the key, and cannot read it.`,
	}
	var (
		keysFile  string
		allowOpen bool
	)
	verify := &cobra.Command{
		Use:   "verify FILE",
		Short: "Name the first line that was edited, dropped, reordered or cut off",
		Long: `Name the first line that was edited, dropped, reordered or cut off.

FILE is a collected log, or - for standard input. Lines that are no audit lines are skipped. The chains
of several processes, of this release and of earlier ones, may be mixed.

With --allow-open, a chain may lack its signed end. The command then prints how many lines no signature covers.
It fails if one chain has more than 2,000 of them, or if they span more than two minutes: a running service would
have signed them. It also fails on a line that only some JSON parsers read as an audit line.

Vault's administrator gets the public keys by

  vault read -format=json transit/keys/sn-audit-CLUSTER.NAMESPACE.NAME > keys.json

After make serve they are in .dev/audit-keys.json.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			keys, err := readPublicKeys(keysFile)
			if err != nil {
				return fmt.Errorf("%w: --public-keys: %w", errConfiguration, err)
			}
			log := io.Reader(os.Stdin)
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return fmt.Errorf("%w: %w", errConfiguration, err)
				}
				defer f.Close()
				log = f
			}
			summary, err := audit.Verify(log, keys, allowOpen)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			if summary.Chains == 0 {
				return fmt.Errorf("%s: no audit line found: FILE must be the unchanged standard output of the service", args[0])
			}
			report(cmd.OutOrStdout(), summary)
			return nil
		},
	}
	verify.Flags().StringVar(&keysFile, "public-keys", "", "file with the audit key's public keys (required)")
	verify.Flags().BoolVar(&allowOpen, "allow-open", false, "accept chains without a signed end, as of a running or a killed process, if at most two minutes are unsigned")
	cobra.CheckErr(verify.MarkFlagRequired("public-keys"))
	command.AddCommand(verify)
	return command
}

// report prints the summary of a verified log, and which of its lines no signature covers.
func report(out io.Writer, s audit.Summary) {
	lines := strconv.Itoa(s.Lines)
	if s.Unsigned > 0 {
		lines = fmt.Sprintf("%d of %d", s.Lines-s.Unsigned, s.Lines)
	}
	fmt.Fprintf(out, "%s audit lines in %d chains are unchanged; %d signatures verified\n", lines, s.Chains, s.Checkpoints)
	if s.Unsigned == 0 {
		return
	}
	fmt.Fprintf(out, "%d lines of %d open chains, from %s to %s, are not signed: they may be forged, and lines after them may be missing\n",
		s.Unsigned, s.Open, s.UnsignedFrom.Format(time.RFC3339), s.UnsignedUntil.Format(time.RFC3339))
}

func readPublicKeys(path string) (audit.PublicKeys, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxPublicKeys))
	if err != nil {
		return nil, err
	}
	return audit.ParsePublicKeys(raw)
}
