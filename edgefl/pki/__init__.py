"""Who everyone is: the site's own certificate authority."""
