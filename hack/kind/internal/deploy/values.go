package deploy

import (
	"encoding/json"
	"os"
	"strings"

	"github.com/securenotes/securenotes/hack/kind/images"
)

// values returns the chart's values in JSON, which is YAML.
func (d Deploy) values() ([]byte, error) {
	ca, err := os.ReadFile(d.Layout.CA())
	if err != nil {
		return nil, err
	}
	operatorImage, err := imageValues(d.image(operator))
	if err != nil {
		return nil, err
	}
	operandImage, err := imageValues(d.image(service))
	if err != nil {
		return nil, err
	}
	return json.MarshalIndent(map[string]any{
		"image":   operatorImage,
		"operand": map[string]any{"image": operandImage},
		// Shorter than the default of ten minutes, for experiments such as to seal Vault.
		"vaultResyncInterval": "1m",
		"vaultConnections": map[string]any{
			"default": map[string]any{"address": "https://vault.vault.svc:8200", "caBundle": string(ca)},
		},
	}, "", "  ")
}

func imageValues(i images.Image) (map[string]any, error) {
	ref, err := i.Ref()
	if err != nil {
		return nil, err
	}
	name, tag, _ := strings.Cut(ref, ":")
	registry, repository, _ := strings.Cut(name, "/")
	return map[string]any{"registry": registry, "repository": repository, "tag": tag, "pullPolicy": "IfNotPresent"}, nil
}
