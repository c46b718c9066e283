meter_arguments() { :; }
meter_prepare() { :; }
meter_build() { :; }
