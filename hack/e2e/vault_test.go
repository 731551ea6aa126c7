//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/hack/poll"
)

// vault is a client of Vault with its administrator's token, and the key that unseals it.
type vault struct {
	*api.Client
	unsealKey string
	address   string
	token     string
}

func (c *cluster) vault(t testing.TB) *vault {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(c.dir, "vault", "keys.json"))
	if err != nil {
		t.Fatal(err)
	}
	var keys struct {
		UnsealKey string `json:"unsealKey"`
		RootToken string `json:"rootToken"`
	}
	if err := json.Unmarshal(raw, &keys); err != nil {
		t.Fatal(err)
	}
	address, _ := forward(t, "vault", "pod/vault-0", "8200")
	settings := api.DefaultConfig()
	settings.Address = "https://" + address
	if err := settings.ConfigureTLS(&api.TLSConfig{CACert: c.ca}); err != nil {
		t.Fatal(err)
	}
	v, err := api.NewClient(settings)
	if err != nil {
		t.Fatal(err)
	}
	v.SetToken(keys.RootToken)
	return &vault{Client: v, unsealKey: keys.UnsealKey, address: settings.Address, token: keys.RootToken}
}

func (v *vault) unseal(t testing.TB) {
	t.Helper()
	if _, err := v.Sys().Unseal(v.unsealKey); err != nil {
		t.Fatal(err)
	}
	poll.Eventually(t, time.Minute, "Vault to be active", func(ctx context.Context) error {
		_, err := v.Auth().Token().LookupSelfWithContext(ctx)
		return err
	})
}

func (c *cluster) clusterID(t testing.TB) string {
	t.Helper()
	ns := &corev1.Namespace{}
	if err := c.Get(context.Background(), client.ObjectKey{Name: "kube-system"}, ns); err != nil {
		t.Fatal(err)
	}
	return string(ns.UID)
}

// transitKey returns the path of a SecureNotes' master key.
func (c *cluster) transitKey(t testing.TB, namespace, name string) string {
	t.Helper()
	return "transit/keys/" + config.TransitKeyName(c.clusterID(t), namespace, name)
}
