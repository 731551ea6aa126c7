package main

import (
	"bytes"
	"encoding/pem"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// rootsModule has Mozilla's root certificates. They are pinned by go.sum, while those of a machine
// or of a base image change with its packages, and with them the image's digest.
const rootsModule = "golang.org/x/crypto/x509roots/fallback"

// roots are the root certificates in PEM. A root that Mozilla trusts only for certificates issued
// before some date is left out, because PEM cannot say so.
func roots() []byte {
	var b bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate})
		}
	}
	return b.Bytes()
}
