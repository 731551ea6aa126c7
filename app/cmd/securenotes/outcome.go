package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/config/truncate"
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

// maxTermination bounds the message of a [config.Termination], in bytes. Kubernetes keeps 4,096.
const maxTermination = 2048

// errConfiguration marks errors that a retry cannot fix.
var errConfiguration = errors.New("configuration")

// outcomes maps errors to a reason and an exit code, first match first.
var outcomes = []struct {
	err    error
	reason string
	exit   int
}{
	{errConfiguration, config.ReasonConfigInvalid, config.ExitConfiguration},
	{store.ErrSuperseded, config.ReasonSuperseded, config.ExitSuperseded},
	{store.ErrSecretMissing, config.ReasonDatabaseSecretMissing, config.ExitRetryable},
	{store.ErrInvalidURI, config.ReasonDatabaseURIInvalid, config.ExitRetryable},
	{store.ErrAuthentication, config.ReasonDatabaseAuthenticationFailed, config.ExitRetryable},
	{deployment.ErrLost, config.ReasonDatabaseLost, config.ExitRetryable},
	{deployment.ErrRestoring, config.ReasonDatabaseRestoring, config.ExitRetryable},
	{store.ErrRestored, config.ReasonDatabaseRestored, config.ExitRetryable},
	{deployment.ErrOtherDeployment, config.ReasonDatabaseMismatch, config.ExitRetryable},
	{deployment.ErrWrongKey, config.ReasonKeyMismatch, config.ExitRetryable},
	{deployment.ErrWrongPepper, config.ReasonSecretMismatch, config.ExitRetryable},
	{vault.ErrNotRecorded, config.ReasonSecretMismatch, config.ExitRetryable},
	{reencrypt.ErrStaleRows, config.ReasonStaleRows, config.ExitRetryable},
	{store.ErrNotEmpty, config.ReasonDatabaseNotEmpty, config.ExitConfiguration},
	{store.ErrInUse, config.ReasonDatabaseInUse, config.ExitRetryable},
	{store.ErrRestoreSuperseded, config.ReasonSuperseded, config.ExitSuperseded},
	{store.ErrWaiters, config.ReasonBackupDeferred, config.ExitRetryable},
	{backup.ErrDrillIdentity, config.ReasonDrillIdentityMissing, config.ExitConfiguration},
	{destination.ErrDenied, config.ReasonDestinationDenied, config.ExitRetryable},
	{destination.ErrFull, config.ReasonDestinationFull, config.ExitRetryable},
	{destination.ErrUnavailable, config.ReasonDestinationUnavailable, config.ExitRetryable},
	{vault.ErrNoDatabaseLogin, config.ReasonDatabaseLoginMissing, config.ExitRetryable},
	{vault.ErrSealed, config.ReasonVaultSealed, config.ExitRetryable},
	{vault.ErrUnavailable, config.ReasonVaultUnreachable, config.ExitRetryable},
	{vault.ErrDenied, config.ReasonVaultDenied, config.ExitRetryable},
	{envelope.ErrRefused, config.ReasonKeyMismatch, config.ExitRetryable},
	{store.ErrPermission, config.ReasonDatabasePermissionDenied, config.ExitRetryable},
	{store.ErrSchema, config.ReasonMigrationFailed, config.ExitRetryable},
	{store.ErrRefused, config.ReasonDatabaseRefused, config.ExitRetryable},
	{store.ErrUnavailable, config.ReasonDatabaseUnreachable, config.ExitRetryable},
	{server.ErrCertificate, config.ReasonCertificateInvalid, config.ExitRetryable},
}

// outcome returns the termination message and the exit code for an error.
func outcome(err error) (config.Termination, int) {
	if refused(err) {
		return config.Termination{Reason: config.ReasonBackupRefused, Message: truncate.Bytes(err.Error(), maxTermination)}, config.ExitConfiguration
	}
	for _, o := range outcomes {
		if errors.Is(err, o.err) {
			return config.Termination{Reason: o.reason, Message: truncate.Bytes(err.Error(), maxTermination)}, o.exit
		}
	}
	return config.Termination{Reason: config.ReasonFailed, Message: truncate.Bytes(err.Error(), maxTermination)}, config.ExitRetryable
}

// refused reports whether a backup or a restore was refused and will be again, unless a person
// acts.
func refused(err error) bool {
	_, refusal := errors.AsType[*archive.Refusal](err)
	return refusal && !errors.Is(err, archive.ErrRead) && !errors.Is(err, backup.ErrVersionsGone) && !errors.Is(err, vault.ErrUnavailable)
}

// explain returns the error that /readyz shows. If the error has a reason, the text begins with it,
// so that the operator can show it.
func explain(err error) error {
	if err == nil {
		return nil
	}
	if t, _ := outcome(err); t.Reason != config.ReasonFailed {
		return fmt.Errorf("%s: %w", t.Reason, err)
	}
	return err
}

// conclude reports how a command ended, on standard error and to Kubernetes, and returns the exit
// code.
func conclude(err error) int {
	if err == nil {
		return 0
	}
	termination, exit := outcome(err)
	fmt.Fprintf(os.Stderr, "securenotes: %s: %s\n", termination.Reason, termination.Message)
	if err := writeTermination(termination); err != nil {
		fmt.Fprintln(os.Stderr, "securenotes:", err)
	}
	return exit
}

// encodeTermination returns t in JSON. It does not escape what only HTML needs, because that would
// take six bytes for one.
func encodeTermination(t config.Termination) ([]byte, error) {
	var raw bytes.Buffer
	encoder := json.NewEncoder(&raw)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(t)
	return raw.Bytes(), err
}

// writeTermination writes the termination message, if Kubernetes has created the file for it.
func writeTermination(t config.Termination) error {
	raw, err := encodeTermination(t)
	if err != nil {
		return fmt.Errorf("termination message: %w", err)
	}
	f, err := os.OpenFile(config.TerminationLog, os.O_WRONLY|os.O_TRUNC, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		_, err = f.Write(raw)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return fmt.Errorf("termination message: %w", err)
	}
	return nil
}
