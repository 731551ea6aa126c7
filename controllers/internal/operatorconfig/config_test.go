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
		"misspelt field":        {old: "operandImage:", new: "operandimagee:", want: "operandimagee"},
		"plain http":            {old: "https://", new: "http://", want: "vaultConnections.default.address"},
		"bad CA":                {old: `:8200"}`, new: `:8200", caBundle: "x"}`, want: "vaultConnections.default.caBundle"},
		"mount with a slash":    {old: `:8200"}`, new: `:8200", kvMount: "secret/"}`, want: "vaultConnections.default.kvMount"},
		"resync too often":      {old: "kind:", new: "vaultResyncInterval: 1s\nkind:", want: "vaultResyncInterval"},
		"unknown log level":     {old: "kind:", new: "logLevel: trace\nkind:", want: "logLevel"},
		"cluster id with a dot": {old: "kind:", new: "clusterID: a.b\nkind:", want: "clusterID"},
		"namespace with a dot":  {old: "kind:", new: "watchNamespaces: [a.b]\nkind:", want: "watchNamespaces[0]"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(strings.Replace(valid, tc.old, tc.new, 1)))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v does not name %s", err, tc.want)
			}
		})
	}
}

// FuzzParse: a configuration is rejected, or keeps its meaning when it is written with its
// defaults.
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
