//go:build integration

package envelope

import (
	"context"
	"errors"
	"testing"

	"github.com/securenotes/securenotes/app/internal/vault"
	"github.com/securenotes/securenotes/hack/testenv"
)

// eachProvider runs a test with every provider, and with a real Vault.
func eachProvider(t *testing.T, test func(*testing.T, rotatable)) {
	t.Run("Local", func(t *testing.T) { test(t, newRotatableLocal(t)) })
	t.Run("Vault", func(t *testing.T) {
		key := testenv.StartVault(t).CreateTransitKey(t)
		session, err := vault.NewSession(key.Config)
		if err != nil {
			t.Fatal(err)
		}
		test(t, rotatableVault{NewVault(session, key.Config), key})
	})
}

type rotatableVault struct {
	*Vault
	key *testenv.TransitKey
}

func (v rotatableVault) rotate(t testing.TB)            { v.key.Rotate(t) }
func (v rotatableVault) retire(t testing.TB, least int) { v.key.Retire(t, least) }

func TestVaultSealedAndBack(t *testing.T) {
	server := testenv.StartVault(t)
	key := server.CreateTransitKey(t)
	session, err := vault.NewSession(key.Config)
	if err != nil {
		t.Fatal(err)
	}
	keyring := NewKeyring("d1", NewVault(session, key.Config))
	ctx := context.Background()
	stored, err := keyring.Generate(ctx, "o1")
	if err != nil {
		t.Fatal(err)
	}
	server.Seal(t)
	if _, err := keyring.Unwrap(ctx, stored); !errors.Is(err, ErrUnavailable) || !errors.Is(err, ErrVaultSealed) {
		t.Errorf("sealed: %v, want ErrUnavailable and ErrVaultSealed", err)
	}
	server.Unseal(t)
	if _, err := keyring.Unwrap(ctx, stored); err != nil {
		t.Errorf("unsealed again: %v", err)
	}
}

// TestVaultRevokedToken checks that a revoked token leads to another login, and not to an error.
func TestVaultRevokedToken(t *testing.T) {
	server := testenv.StartVault(t)
	key := server.CreateTransitKey(t)
	session, err := vault.NewSession(key.Config)
	if err != nil {
		t.Fatal(err)
	}
	keyring := NewKeyring("d1", NewVault(session, key.Config))
	ctx := context.Background()
	if _, err := keyring.Generate(ctx, "o1"); err != nil {
		t.Fatal(err)
	}
	if err := server.Client(t).Sys().RevokePrefix("auth/" + key.Config.AuthMount); err != nil {
		t.Fatal(err)
	}
	if _, err := keyring.Generate(ctx, "o1"); err != nil {
		t.Errorf("after the token was revoked: %v", err)
	}
}

// TestVaultDenied uses a key that the role has no right to.
func TestVaultDenied(t *testing.T) {
	key := testenv.StartVault(t).CreateTransitKey(t)
	other := key.Config
	other.TransitKey = "another"
	session, err := vault.NewSession(other)
	if err != nil {
		t.Fatal(err)
	}
	_, err = NewKeyring("d1", NewVault(session, other)).Generate(context.Background(), "o1")
	if !errors.Is(err, ErrDenied) {
		t.Errorf("error %v, want ErrDenied", err)
	}
}
