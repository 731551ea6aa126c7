package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/securenotes/securenotes/app/config"
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
		"wrong configuration":   {fmt.Errorf("%w: x", errConfiguration), config.ReasonConfigInvalid, config.ExitConfiguration},
		"newer rotation":        {fmt.Errorf("owner o: %w", store.ErrSuperseded), config.ReasonSuperseded, config.ExitSuperseded},
		"no database secret":    {store.ErrSecretMissing, config.ReasonDatabaseSecretMissing, config.ExitRetryable},
		"no database URI":       {store.ErrInvalidURI, config.ReasonDatabaseURIInvalid, config.ExitRetryable},
		"wrong password":        {store.ErrAuthentication, config.ReasonDatabaseAuthenticationFailed, config.ExitRetryable},
		"database refuses":      {store.ErrRefused, config.ReasonDatabaseRefused, config.ExitRetryable},
		"no right in database":  {store.ErrPermission, config.ReasonDatabasePermissionDenied, config.ExitRetryable},
		"database away":         {store.ErrUnavailable, config.ReasonDatabaseUnreachable, config.ExitRetryable},
		"lost database":         {deployment.Lost(config.Deployment{}, "x"), config.ReasonDatabaseLost, config.ExitRetryable},
		"other deployment":      {deployment.ErrOtherDeployment, config.ReasonDatabaseMismatch, config.ExitRetryable},
		"wrong pepper":          {fmt.Errorf("%w: x", deployment.ErrWrongPepper), config.ReasonSecretMismatch, config.ExitRetryable},
		"planted session keys":  {fmt.Errorf("x: %w", vault.ErrNotRecorded), config.ReasonSecretMismatch, config.ExitRetryable},
		"wrong master key":      {fmt.Errorf("%w: %w", deployment.ErrWrongKey, envelope.ErrRefused), config.ReasonKeyMismatch, config.ExitRetryable},
		"something left behind": {reencrypt.ErrStaleRows, config.ReasonStaleRows, config.ExitRetryable},
		"Vault sealed":          {fmt.Errorf("%w: %w", vault.ErrUnavailable, vault.ErrSealed), config.ReasonVaultSealed, config.ExitRetryable},
		"Vault away":            {vault.ErrUnavailable, config.ReasonVaultUnreachable, config.ExitRetryable},
		"Vault denies":          {vault.ErrDenied, config.ReasonVaultDenied, config.ExitRetryable},
		"bad certificate":       {fmt.Errorf("%w: x", server.ErrCertificate), config.ReasonCertificateInvalid, config.ExitRetryable},
		"anything else":         {errors.New("x"), config.ReasonFailed, config.ExitRetryable},
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
		"with a reason":    {fmt.Errorf("ping: %w", store.ErrUnavailable), "DatabaseUnreachable: ping: " + store.ErrUnavailable.Error()},
		"without a reason": {errors.New("x"), "x"},
	} {
		if got := explain(tc.err); got.Error() != tc.want || !errors.Is(got, tc.err) {
			t.Errorf("%s: /readyz says %q, want %q", name, got, tc.want)
		}
	}
	long, _ := outcome(errors.New(strings.Repeat("x", 10_000)))
	if len(long.Message) > maxTermination {
		t.Errorf("a message of %d bytes", len(long.Message))
	}
}

// TestPanicEndsNoJob: the exit code of a program that panics, which is also that of one that is told to end
// while it starts, does not end a Job for good.
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
		t.Errorf("exit code %d ends a Job for good", code)
	}
}
