// validatorUrl: without it, Swagger UI asks a public service about any host that is not local.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
});
