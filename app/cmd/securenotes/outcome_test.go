package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/backup"
	"github.com/securenotes/securenotes/app/internal/backup/archive"
	"github.com/securenotes/securenotes/app/internal/backup/destination"
	"github.com/securenotes/securenotes/app/internal/deployment"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/reencrypt"
	"github.com/securenotes/securenotes/app/internal/server"
	"github.com/securenotes/securenotes/app/internal/store"
	"github.com/securenotes/securenotes/app/internal/vault"
)

func TestOutcome(t *testing.T) {
	for name, tc := range map[string]struct {
		err    error
		reason string
		exit   int
	}{
		"wrong configuration":   {err: fmt.Errorf("%w: x", errConfiguration), reason: config.ReasonConfigInvalid, exit: config.ExitConfiguration},
		"newer rotation":        {err: fmt.Errorf("owner o: %w", store.ErrSuperseded), reason: config.ReasonSuperseded, exit: config.ExitSuperseded},
		"no database secret":    {err: store.ErrSecretMissing, reason: config.ReasonDatabaseSecretMissing, exit: config.ExitRetryable},
		"no database URI":       {err: store.ErrInvalidURI, reason: config.ReasonDatabaseURIInvalid, exit: config.ExitRetryable},
		"wrong password":        {err: store.ErrAuthentication, reason: config.ReasonDatabaseAuthenticationFailed, exit: config.ExitRetryable},
		"database refuses":      {err: store.ErrRefused, reason: config.ReasonDatabaseRefused, exit: config.ExitRetryable},
		"no right in database":  {err: store.ErrPermission, reason: config.ReasonDatabasePermissionDenied, exit: config.ExitRetryable},
		"database away":         {err: store.ErrUnavailable, reason: config.ReasonDatabaseUnreachable, exit: config.ExitRetryable},
		"lost database":         {err: deployment.Lost(config.Deployment{}, "x"), reason: config.ReasonDatabaseLost, exit: config.ExitRetryable},
		"unfinished restore":    {err: fmt.Errorf("%w (run x)", deployment.ErrRestoring), reason: config.ReasonDatabaseRestoring, exit: config.ExitRetryable},
		"restored database":     {err: fmt.Errorf("%w: x", store.ErrRestored), reason: config.ReasonDatabaseRestored, exit: config.ExitRetryable},
		"other deployment":      {err: deployment.ErrOtherDeployment, reason: config.ReasonDatabaseMismatch, exit: config.ExitRetryable},
		"wrong pepper":          {err: fmt.Errorf("%w: x", deployment.ErrWrongPepper), reason: config.ReasonSecretMismatch, exit: config.ExitRetryable},
		"planted session keys":  {err: fmt.Errorf("x: %w", vault.ErrNotRecorded), reason: config.ReasonSecretMismatch, exit: config.ExitRetryable},
		"wrong master key":      {err: fmt.Errorf("%w: %w", deployment.ErrWrongKey, envelope.ErrRefused), reason: config.ReasonKeyMismatch, exit: config.ExitRetryable},
		"something left behind": {err: reencrypt.ErrStaleRows, reason: config.ReasonStaleRows, exit: config.ExitRetryable},
		"Vault sealed":          {err: fmt.Errorf("%w: %w", vault.ErrUnavailable, vault.ErrSealed), reason: config.ReasonVaultSealed, exit: config.ExitRetryable},
		"Vault away":            {err: vault.ErrUnavailable, reason: config.ReasonVaultUnreachable, exit: config.ExitRetryable},
		"Vault denies":          {err: vault.ErrDenied, reason: config.ReasonVaultDenied, exit: config.ExitRetryable},
		"target not empty":      {err: fmt.Errorf("x: %w", store.ErrNotEmpty), reason: config.ReasonDatabaseNotEmpty, exit: config.ExitConfiguration},
		"target in use":         {err: store.ErrInUse, reason: config.ReasonDatabaseInUse, exit: config.ExitRetryable},
		"another restore":       {err: store.ErrRestoreSuperseded, reason: config.ReasonSuperseded, exit: config.ExitSuperseded},
		"migration waits":       {err: store.ErrWaiters, reason: config.ReasonBackupDeferred, exit: config.ExitRetryable},
		"no drill identity":     {err: fmt.Errorf("%w: x", backup.ErrDrillIdentity), reason: config.ReasonDrillIdentityMissing, exit: config.ExitConfiguration},
		"bucket denies":         {err: fmt.Errorf("x: %w", destination.ErrDenied), reason: config.ReasonDestinationDenied, exit: config.ExitRetryable},
		"volume full":           {err: fmt.Errorf("x: %w", destination.ErrFull), reason: config.ReasonDestinationFull, exit: config.ExitRetryable},
		"bucket away":           {err: fmt.Errorf("x: %w", destination.ErrUnavailable), reason: config.ReasonDestinationUnavailable, exit: config.ExitRetryable},
		"backup refused":        {err: fmt.Errorf("x: %w", &archive.Refusal{Reason: archive.ErrDamaged}), reason: config.ReasonBackupRefused, exit: config.ExitConfiguration},
		"keys refused":          {err: &archive.Refusal{Reason: backup.ErrVersionsRefused, Err: envelope.ErrRefused}, reason: config.ReasonBackupRefused, exit: config.ExitConfiguration},
		"backup cannot be read": {err: &archive.Refusal{Reason: archive.ErrRead, Err: destination.ErrUnavailable}, reason: config.ReasonDestinationUnavailable, exit: config.ExitRetryable},
		"no public keys, Vault away": {
			err: &archive.Refusal{Reason: archive.ErrNoPublicKeys, Err: vault.ErrUnavailable}, reason: config.ReasonVaultUnreachable, exit: config.ExitRetryable,
		},
		"bad certificate": {err: fmt.Errorf("%w: x", server.ErrCertificate), reason: config.ReasonCertificateInvalid, exit: config.ExitRetryable},
		"anything else":   {err: errors.New("x"), reason: config.ReasonFailed, exit: config.ExitRetryable},
	} {
		t.Run(name, func(t *testing.T) {
			termination, exit := outcome(tc.err)
			if termination.Reason != tc.reason || exit != tc.exit {
				t.Errorf("reason %s, exit %d; want %s, %d", termination.Reason, exit, tc.reason, tc.exit)
			}
		})
	}
	for name, tc := range map[string]struct {
		err  error
		want string
	}{
		"with a reason":    {err: fmt.Errorf("ping: %w", store.ErrUnavailable), want: "DatabaseUnreachable: ping: " + store.ErrUnavailable.Error()},
		"without a reason": {err: errors.New("x"), want: "x"},
	} {
		if got := explain(tc.err); got.Error() != tc.want || !errors.Is(got, tc.err) {
			t.Errorf("%s: /readyz says %q, want %q", name, got, tc.want)
		}
	}
	long, _ := outcome(errors.New("x" + strings.Repeat("é", 10_000)))
	if len(long.Message) > maxTermination || !utf8.ValidString(long.Message) {
		t.Errorf("a message of %d bytes, valid UTF-8: %t", len(long.Message), utf8.ValidString(long.Message))
	}
}

// TestPanicEndsNoJob checks that the exit code of a panic, which is also that of a SIGTERM during
// the start, does not end a Job permanently.
func TestPanicEndsNoJob(t *testing.T) {
	if os.Getenv("SECURENOTES_TEST_PANIC") != "" {
		panic("on purpose")
	}
	child := exec.Command(os.Args[0], "-test.run=^TestPanicEndsNoJob$")
	child.Env = append(os.Environ(), "SECURENOTES_TEST_PANIC=1")
	out, err := child.CombinedOutput()
	if child.ProcessState == nil || !strings.Contains(string(out), "on purpose") {
		t.Fatalf("no panic: %v\n%s", err, out)
	}
	if code := child.ProcessState.ExitCode(); code == config.ExitConfiguration || code == config.ExitSuperseded {
		t.Errorf("exit code %d ends a Job permanently", code)
	}
}
