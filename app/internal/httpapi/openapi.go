package httpapi

import (
	_ "embed"
	"net/http"

	"github.com/gin-gonic/gin"
)

// OpenAPI is the API's description (OpenAPI 3.1). Tests check the handlers against it.
//
//go:embed openapi.yaml
var OpenAPI []byte

func openAPI(c *gin.Context) { c.Data(http.StatusOK, "application/yaml", OpenAPI) }
