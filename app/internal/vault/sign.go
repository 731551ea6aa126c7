package vault

import (
	"context"
	"encoding/base64"
	"fmt"

	"github.com/hashicorp/vault/api"
)

// Sign signs the message with the deployment's audit key. The result has Vault's format,
// vault:vVERSION:BASE64.
func (s *Session) Sign(ctx context.Context, message []byte) (string, error) {
	return s.sign(ctx, s.config.AuditKey, message)
}

// SignBackup signs the message with the newest version of the deployment's backup key. The result
// has Vault's format, vault:vVERSION:BASE64.
func (s *Session) SignBackup(ctx context.Context, message []byte) (string, error) {
	return s.sign(ctx, s.config.BackupKey, message)
}

func (s *Session) sign(ctx context.Context, key string, message []byte) (string, error) {
	what := "sign with transit key " + key
	var signature string
	err := s.Call(ctx, what, func(ctx context.Context, client *api.Client) error {
		secret, err := client.Logical().WriteWithContext(ctx, s.config.TransitMount+"/sign/"+key,
			map[string]any{"input": base64.StdEncoding.EncodeToString(message)})
		if err != nil {
			return err
		}
		if secret != nil {
			signature, _ = secret.Data["signature"].(string)
		}
		if signature == "" {
			return fmt.Errorf("%s: the answer holds no signature", what)
		}
		return nil
	})
	return signature, err
}
