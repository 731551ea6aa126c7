package operatorconfig

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

const valid = `
apiVersion: config.securenotes.dev/v1alpha1
kind: OperatorConfig
operandImage: securenotes.dev/securenotes:dev
operatorNamespace: securenotes-system
operatorServiceAccount: securenotes-operator
vaultConnections:
  default: {address: "https://vault.vault.svc:8200"}
`

func TestParse(t *testing.T) {
	t.Parallel()
	c, err := Parse([]byte(valid))
	if err != nil {
		t.Fatal(err)
	}
	connection := c.Connections()[0]
	if connection.AuthMount != "kubernetes" || connection.TokenFile != "/var/run/secrets/vault/default/token" {
		t.Errorf("defaults are missing: %+v", connection)
	}
}

func TestParseNamesTheWrongField(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ old, new, want string }{
		"misspelt field":        {"operandImage:", "operandimagee:", "operandimagee"},
		"plain http":            {"https://", "http://", "vaultConnections.default.address"},
		"bad CA":                {`:8200"}`, `:8200", caBundle: "x"}`, "vaultConnections.default.caBundle"},
		"mount with a slash":    {`:8200"}`, `:8200", kvMount: "secret/"}`, "vaultConnections.default.kvMount"},
		"resync too often":      {"kind:", "vaultResyncInterval: 1s\nkind:", "vaultResyncInterval"},
		"cluster id with a dot": {"kind:", "clusterID: a.b\nkind:", "clusterID"},
		"namespace with a dot":  {"kind:", "watchNamespaces: [a.b]\nkind:", "watchNamespaces[0]"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(strings.Replace(valid, tc.old, tc.new, 1)))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v does not name %s", err, tc.want)
			}
		})
	}
}

// FuzzParse: a configuration is refused, or means the same when it is written down with its defaults.
func FuzzParse(f *testing.F) {
	f.Add([]byte(valid))
	f.Add([]byte("vaultConnections: {default: {}}"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := Parse(raw)
		if err != nil {
			return
		}
		written, err := yaml.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(written)
		if err != nil {
			t.Fatalf("with its defaults it is refused: %v", err)
		}
		if diff := cmp.Diff(c, again); diff != "" {
			t.Error(diff)
		}
	})
}
