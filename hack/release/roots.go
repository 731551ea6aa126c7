package main

import (
	"bytes"
	"encoding/pem"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// rootsModule contains Mozilla's root certificates. go.sum pins them. The certificates of a machine
// or of a base image would change with its packages, and so would the image's digest.
const rootsModule = "golang.org/x/crypto/x509roots/fallback"

// roots returns the root certificates in PEM. It omits roots that Mozilla trusts only for
// certificates issued before some date, because PEM cannot express that.
func roots() []byte {
	var b bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate})
		}
	}
	return b.Bytes()
}
