package operatorconfig

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"sigs.k8s.io/yaml"
)

const chart = "../../../charts/securenotes-operator/"

// bounds are values of the chart at the limits of what the operator accepts. Each config function
// writes what the template of the chart writes into the operator's configuration.
var bounds = map[string]struct {
	// good passes the schema and the operator. odd may pass neither, or both.
	good, odd []any
	// config is the field of the operator's configuration.
	config func(value any) map[string]any
}{
	"replicas": {good: []any{1, 3}, odd: []any{0, -1}},
	"vaultResyncInterval": {
		good: []any{"1m", "10m", "59m", "1440m", "1h", "24h"},
		odd:  slices.Concat(durations(0, 2000, "m"), durations(0, 100, "h"), durations(0, 120, "s"), []any{"", "1.5h", "1h30m", "010m", "-1m", "1d"}),
		config: func(v any) map[string]any {
			return map[string]any{"vaultResyncInterval": v}
		},
	},
	"logLevel": {
		good:   []any{"info", "debug"},
		odd:    []any{"", "trace", "INFO"},
		config: func(v any) map[string]any { return map[string]any{"logLevel": v} },
	},
	"clusterID": {
		good:   []any{"", "a", "1", "prod-1", strings.Repeat("a", 63), "auditor", "backups-1"},
		odd:    []any{"audit-", "audit-a", "backup-a", strings.Repeat("a", 64), "-a", "a-", "a.b", "A", "a\n"},
		config: func(v any) map[string]any { return map[string]any{"clusterID": v} },
	},
	"watchNamespaces": {
		good:   []any{[]any{}, []any{"a"}, []any{"1", strings.Repeat("a", 63)}},
		odd:    []any{[]any{""}, []any{"a.b"}, []any{"A"}, []any{"-"}, []any{strings.Repeat("a", 64)}, []any{"a b"}, []any{1}},
		config: func(v any) map[string]any { return map[string]any{"watchNamespaces": v} },
	},
	"serviceAccount.name": {
		good: []any{"", "operator", "a.b", "1"},
		odd:  []any{" ", "a b", "A", "a\n", strings.Repeat("a", 254)},
		config: func(v any) map[string]any {
			if v == "" {
				v = "release"
			}
			return map[string]any{"operatorServiceAccount": v}
		},
	},
	"operand.image.registry": {
		good:   []any{"", "registry.example.com:5000", "ghcr.io/team", "[::1]:5000"},
		odd:    []any{" ", "a b", "a\tb", "a\n"},
		config: func(v any) map[string]any { return image(v, "a/b", ":1") },
	},
	"operand.image.repository": {
		good:   []any{"securenotes", "team/securenotes", "a_b/c-d.e"},
		odd:    []any{"", " ", "a b", "a\n", "/", "a/"},
		config: func(v any) map[string]any { return image("", v, ":1") },
	},
	"operand.image.tag": {
		good:   []any{"", "1.2.3", "v1_rc-1"},
		odd:    []any{" ", "a b", "a\n", "a:b", strings.Repeat("a", 129)},
		config: func(v any) map[string]any { return image("", "a", fmt.Sprint(":", v)) },
	},
	"operand.image.digest": {
		good:   []any{"", "sha256:" + strings.Repeat("0", 64)},
		odd:    []any{"sha256:", " "},
		config: func(v any) map[string]any { return image("", "a", fmt.Sprint("@", v)) },
	},
	"operand.image.pullPolicy": {
		good:   []any{"Always", "IfNotPresent", "Never"},
		odd:    []any{"", "always", "Sometimes"},
		config: func(v any) map[string]any { return map[string]any{"operandImagePullPolicy": v} },
	},
	"vaultConnections": {
		good: slices.Concat(
			connections("address", "https://vault", "https://vault.example.com:8200", "https://[::1]:8200", "https://10.0.0.1/", "https://vault_1.example.com/v"),
			connections("authMount", "", "kubernetes", "a/b_c-d"), connections("kvMount", "a/b"), connections("transitMount", "a"), connections("databaseMount", "a"),
			connections("namespace", "", "team/a"), connections("audience", "", "vault"), connections("caBundle", "", certificate()),
			[]any{map[string]any{}, map[string]any{strings.Repeat("a", 63): map[string]any{"address": "https://a"}, "1": map[string]any{"address": "https://a"}}},
		),
		odd: slices.Concat(
			connections("address", "", "https://", "http://vault", "https://user@vault", "https://user:password@vault", "https://a b", "https://[::1", "https://:8200", "https://vault:port", "https://%zz", "https://a\n", "https://vault:", "https:///v1", "https://a?b", "https://a#b"),
			connections("authMount", "/", "a/", "/a", "a//b", "a b", "ä"), connections("kvMount", "a/"), connections("transitMount", "/a"), connections("databaseMount", "."),
			connections("caBundle", "x", "-----BEGIN CERTIFICATE-----", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----"),
			[]any{map[string]any{strings.Repeat("a", 64): map[string]any{"address": "https://a"}}, map[string]any{"A": map[string]any{"address": "https://a"}}, map[string]any{"a": map[string]any{}}},
		),
		config: func(v any) map[string]any { return map[string]any{"vaultConnections": v} },
	},
}

// TestWhatTheChartPassesStartsTheOperator tries the limits of every chart value that reaches the
// operator's configuration. A schema can check everything except whether a caBundle holds a
// certificate.
func TestWhatTheChartPassesStartsTheOperator(t *testing.T) {
	t.Parallel()
	compiler := jsonschema.NewCompiler()
	schema, err := compiler.Compile(chart + "values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	passes := func(path string, value any) error {
		for _, key := range slices.Backward(strings.Split(path, ".")) {
			value = map[string]any{key: value}
		}
		return schema.Validate(value)
	}
	for path, tc := range bounds {
		t.Run(path, func(t *testing.T) {
			for _, value := range tc.good {
				if err := passes(path, value); err != nil {
					t.Errorf("the schema refuses %q: %v", value, err)
				}
			}
			for _, value := range slices.Concat(tc.good, tc.odd) {
				if tc.config == nil || passes(path, value) != nil {
					continue
				}
				if err := starts(t, tc.config(value)); err != nil {
					t.Errorf("the schema passes %q, and the operator does not start: %v", value, err)
				}
			}
		})
	}
	t.Run("none is left out", func(t *testing.T) {
		for _, path := range configured(t) {
			if !slices.ContainsFunc(slices.Collect(maps.Keys(bounds)), func(known string) bool { return known == path || strings.HasPrefix(known, path+".") }) {
				t.Errorf("value %s reaches the configuration and has no bounds here", path)
			}
		}
	})
}

// starts returns an error if the operator rejects a configuration with these fields.
func starts(t *testing.T, fields map[string]any) error {
	t.Helper()
	whole := map[string]any{}
	if err := yaml.Unmarshal([]byte(valid), &whole); err != nil {
		t.Fatal(err)
	}
	maps.Copy(whole, fields)
	raw, err := yaml.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Parse(raw)
	return err
}

// configured returns the values that the template of the operator's configuration uses.
func configured(t *testing.T) []string {
	t.Helper()
	raw, err := os.ReadFile(chart + "templates/_helpers.tpl")
	if err != nil {
		t.Fatal(err)
	}
	_, template, found := strings.Cut(string(raw), `define "securenotes-operator.config"`)
	if !found {
		t.Fatal("the chart has no template securenotes-operator.config")
	}
	template, _, _ = strings.Cut(template, "{{- define")
	paths := []string{"serviceAccount.name"}
	for _, match := range regexp.MustCompile(`\.Values\.([A-Za-z.]+)`).FindAllStringSubmatch(template, -1) {
		paths = append(paths, match[1])
	}
	if len(paths) < 6 {
		t.Fatalf("found only %v", paths)
	}
	return paths
}

func durations(from, to int, unit string) []any {
	var all []any
	for i := from; i <= to; i++ {
		all = append(all, fmt.Sprint(i, unit))
	}
	return all
}

func image(registry, repository any, rest string) map[string]any {
	text := fmt.Sprint(repository, rest)
	if registry != "" {
		text = fmt.Sprint(registry, "/", text)
	}
	return map[string]any{"operandImage": text}
}

// connections returns Vault connections in which one field has each of the values.
func connections(field string, values ...string) []any {
	var all []any
	for _, value := range values {
		connection := map[string]any{"address": "https://vault"}
		connection[field] = value
		all = append(all, map[string]any{"default": connection})
	}
	return all
}

// certificate returns a PEM certificate with text before it, as tools write it.
func certificate() string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return "subject=CN = a\n" + string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
